"""The two entry points of the group `mlflow.run_context_provider`.

MLflow imports this module during its own import. So nothing here imports MLflow at the top (in some
import orders the provider would silently be dropped) or anything heavy, and nothing here raises
(the import of MLflow would fail). The classes are duck-typed: MLflow needs only the two methods.
"""

from __future__ import annotations

import sys

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.runs.switch import SYSMETRICS, SYSMONITOR, switched_on, unknown_providers


class SysMetricsRunContextProvider:
    """Tags a run with what the host is, while `sysmetrics` is switched on."""

    def in_context(self) -> bool:
        """Whether MLFLOW_RUN_CONTEXT_PROVIDER lists `sysmetrics` at this moment."""
        return _is_on(SYSMETRICS)

    def tags(self) -> dict[str, str]:
        """The host's facts by tag key; never raises."""
        with contained("runs get no host tags"):
            from mlflow_sysmetrics.facts import host_tags  # noqa: PLC0415 - heavy

            tags = host_tags()
            if failures := tags.get("sysmetrics.error"):
                warn_once(f"host tags are missing, since {failures}", subject="missing host tags")
            return tags
        return {}


class SysMonitorRunContextProvider:
    """Samples system and process metrics while `sysmonitor` is switched on.

    Its only tags are those by which the other hosts of a job find the run. Its construction
    attaches to MLflow's runs and starts the search for another host's run; a call of `tags()`
    attaches to a client's.
    """

    def __init__(self) -> None:
        with contained("runs get no system metrics from this plugin"):
            from mlflow_sysmetrics.plugin import (  # noqa: PLC0415 - they may fail
                client_patch,
                monitor_patch,
                rank_thread,
            )

            monitor_patch.attach()
            client_patch.attach()
            rank_thread.start()

    def in_context(self) -> bool:
        """Whether MLFLOW_RUN_CONTEXT_PROVIDER lists `sysmonitor` at this moment."""
        return _is_on(SYSMONITOR)

    def tags(self) -> dict[str, str]:
        """The tags of a job on several hosts; none outside of one. Never raises.

        The call reveals clients that open their own runs.
        """
        with contained("runs that a client opens are not sampled"):
            from mlflow_sysmetrics.plugin.client_patch import tags_resolved_by  # noqa: PLC0415 - if on

            caller = sys._getframe(2)  # noqa: SLF001 - of `resolve_tags`, which calls this
            tags_resolved_by(caller.f_globals.get("__name__", ""))
        with contained("other hosts of the job are not in its run"):
            from mlflow_sysmetrics.distributed.leader import tags_of_led_job  # noqa: PLC0415 - heavy

            return tags_of_led_job()
        return {}


def _is_on(provider: str) -> bool:
    with contained(f"{provider} is off, since MLFLOW_RUN_CONTEXT_PROVIDER cannot be read"):
        for sentence in unknown_providers():
            warn_once(sentence)
        return switched_on(provider)
    return False
