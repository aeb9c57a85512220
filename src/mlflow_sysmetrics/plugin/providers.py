"""The two entry points of the group `mlflow.run_context_provider`.

MLflow imports this module in the middle of its own import: nothing here imports MLflow at the top
(in some import orders the provider would silently be dropped) or anything heavy, and nothing here
raises (MLflow would not import). The classes are duck-typed: MLflow asks only for the two methods.
"""

from __future__ import annotations

import sys

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.addresses import shown_text
from mlflow_sysmetrics.runs.switch import SYSMETRICS, SYSMONITOR, switched_on, unknown_providers


class SysMetricsRunContextProvider:
    """Tags a run with what the host is, while `sysmetrics` is switched on."""

    def in_context(self) -> bool:
        """Whether MLFLOW_RUN_CONTEXT_PROVIDER lists `sysmetrics` at this moment."""
        return _is_on(SYSMETRICS)

    def tags(self) -> dict[str, str]:
        """The host's facts by tag key; never raises."""
        try:
            from mlflow_sysmetrics.facts import host_tags  # noqa: PLC0415 - heavy

            tags = host_tags()
        except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
            warn_once(f"runs get no host tags: {shown_text(repr(error))}")
            return {}
        if failures := tags.get("sysmetrics.error"):
            warn_once(f"host tags are missing, since {failures}", subject="missing host tags")
        return tags


class SysMonitorRunContextProvider:
    """Samples system and process metrics while `sysmonitor` is switched on.

    Its only tags are those by which the other hosts of a job find the run. MLflow's loading it is
    the occasion to attach to MLflow's runs, and to look for the run of another host; being asked
    for tags is the occasion to attach to a client's.
    """

    def __init__(self) -> None:
        try:
            from mlflow_sysmetrics.plugin import (  # noqa: PLC0415 - they may fail
                client_patch,
                monitor_patch,
                rank_thread,
            )

            monitor_patch.attach()
            client_patch.attach()
            rank_thread.start()
        except Exception as error:  # noqa: BLE001 - nothing of ours may break `import mlflow`
            warn_once(f"runs get no system metrics from this plugin: {shown_text(repr(error))}")

    def in_context(self) -> bool:
        """Whether MLFLOW_RUN_CONTEXT_PROVIDER lists `sysmonitor` at this moment."""
        return _is_on(SYSMONITOR)

    def tags(self) -> dict[str, str]:
        """The tags of a job on several hosts; none outside of one. Never raises.

        Being asked reveals clients that open their runs themselves.
        """
        try:
            from mlflow_sysmetrics.plugin.client_patch import tags_resolved_by  # noqa: PLC0415 - if on

            caller = sys._getframe(2)  # noqa: SLF001 - of `resolve_tags`, which calls this
            tags_resolved_by(caller.f_globals.get("__name__", ""))
        except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
            warn_once(f"runs that a client opens are not sampled: {shown_text(repr(error))}")
        try:
            from mlflow_sysmetrics.distributed.leader import tags_of_led_job  # noqa: PLC0415 - heavy

            return tags_of_led_job()
        except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
            warn_once(f"other hosts of the job are not in its run: {shown_text(repr(error))}")
            return {}


def _is_on(provider: str) -> bool:
    try:
        for sentence in unknown_providers():
            warn_once(sentence)
        return switched_on(provider)
    except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
        warn_once(f"the switch {provider!r} cannot be read: {shown_text(repr(error))}")
        return False
