"""The command `doctor`: what is installed, switched on and attached, and what can be read."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.facts import why_no_gpu_metrics
from mlflow_sysmetrics.cli.tables import text_table
from mlflow_sysmetrics.delivery.spool import own_spool_files
from mlflow_sysmetrics.delivery.spool_folder import why_not_writable
from mlflow_sysmetrics.distributed.description import describe_job
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.file_helper import files_at
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.log.isolation import Isolated
from mlflow_sysmetrics.plugin import monitor_patch
from mlflow_sysmetrics.plugin.providers import SysMetricsRunContextProvider
from mlflow_sysmetrics.runs.switch import (
    PROVIDERS_GROUP,
    PROVIDERS_VARIABLE,
    SYSMETRICS,
    SYSMONITOR,
    switched_on,
    unknown_providers,
)
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.settings import VARIABLES, Settings, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterator

_MLFLOW_SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_OF_NONE = {"MLFLOW_SYSMETRICS_INCLUDE": "all", "MLFLOW_SYSMETRICS_SUMMARY": "the usual values"}
_NOT_LOADED = "MLflow did not load its entry point"


@dataclass(frozen=True)
class Provider:
    """One entry point.

    Attributes:
        installed: Whether MLflow finds it among the installed distributions.
        switched_on: Whether MLFLOW_RUN_CONTEXT_PROVIDER lists it.
        detached: Why MLflow does not use it when it is switched on; None if it does.
    """

    installed: bool
    switched_on: bool
    detached: str | None


@dataclass(frozen=True)
class Setting:
    """One setting: its value in force and the variable that set it, or `default`."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Report:
    """The findings of the doctor.

    Attributes:
        versions: Version by package name.
        providers: By entry point name.
        sources: By collector: why its source is absent; None if it is available.
        settings: By variable name.
        is_vetoed: Whether MLflow's own variable switches system metrics off.
        notes: What is no problem, but useful to know.
        problems: Why something that is switched on does not work.
    """

    versions: dict[str, str]
    providers: dict[str, Provider]
    sources: dict[str, str | None]
    settings: dict[str, Setting]
    is_vetoed: bool
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """For the terminal."""
        blocks = [
            "  ".join(f"{name} {number}" for name, number in self.versions.items()),
            "Providers\n" + text_table(_provider_rows(self.providers), indent="  "),
            "Sources of metrics\n"
            + text_table(
                ((name, reason or "available") for name, reason in self.sources.items()),
                indent="  ",
            ),
            "Settings\n"
            + text_table(
                (
                    (name, _as_text(name, each.value), each.origin)
                    for name, each in self.settings.items()
                ),
                indent="  ",
            ),
        ]
        blocks += [f"Note: {note}" for note in self.notes]
        blocks += [f"Problem: {problem}" for problem in self.problems]
        if not self.problems:
            blocks.append("No problem found.")
        return "\n\n".join(blocks)


def _as_text(name: str, value: Any) -> str:  # noqa: ANN401 - of any setting
    if value in {None, ()}:
        return _OF_NONE.get(name, "(none)")
    return shown_value(value)


def _provider_rows(providers: dict[str, Provider]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            "installed" if each.installed else "not installed",
            "switched on" if each.switched_on else "switched off",
            "attached to MLflow" if each.detached is None else f"not attached: {each.detached}",
        )
        for name, each in providers.items()
    ]


def diagnose() -> Report:
    """Look at this host, this environment and this MLflow."""
    providers = _providers()
    settings = Settings.from_env()
    sources, source_notes = _sources()
    return Report(
        versions={
            "mlflow-sysmetrics": version("mlflow-sysmetrics"),
            "MLflow": version("mlflow-skinny"),
            "Python": platform.python_version(),
        },
        providers=providers,
        sources=sources,
        settings={
            variable.name: Setting(
                _in_force(settings, variable.field),
                settings.origins.get(variable.field, "default"),
            )
            for variable in VARIABLES
        },
        is_vetoed=_is_vetoed(),
        notes=(*_notes(providers, settings), *source_notes),
        problems=(*unknown_providers(), *settings.problems, *_problems(providers, settings)),
    )


def _in_force(settings: Settings, field: str) -> Any:  # noqa: ANN401 - of any setting
    """A setting's value, as JSON may have it."""
    if field == "spool_dir":
        return str(settings.spool_folder) if settings.spool_folder else None
    return getattr(settings, field)


def _providers() -> dict[str, Provider]:
    installed = {entry.name for entry in entry_points(group=PROVIDERS_GROUP)}
    reasons = {SYSMETRICS: _why_no_tags(), SYSMONITOR: _why_no_metrics()}
    return {
        name: Provider(name in installed, switched_on(name), reason)
        for name, reason in reasons.items()
    }


def _why_no_tags() -> str | None:
    """Why MLflow would not ask our tag provider; None if it would."""
    with Isolated() as look:  # MLflow may be broken, or not as expected
        from mlflow.tracking.context.registry import (  # noqa: PLC0415 - slow
            _run_context_provider_registry as registry,
        )

        if any(isinstance(each, SysMetricsRunContextProvider) for each in registry):
            return None
    if look.error:
        return f"MLflow's providers cannot be looked at: {look.error!r}"
    return _NOT_LOADED


def _why_no_metrics() -> str | None:
    """Why MLflow would not construct our monitor; None if it would."""
    with Isolated() as look:  # MLflow, psutil or pynvml may be broken
        if monitor_patch.is_attached():
            return None
    if look.error:
        return f"MLflow's monitor cannot be imported: {look.error!r}"
    return _NOT_LOADED


def _sources() -> tuple[dict[str, str | None], list[str]]:
    """By source: why it is absent; and notes on what available ones do not report."""
    collectors = CollectorSet(Host())
    try:
        collectors.open()
        collectors.collect()
        silent = why_no_gpu_metrics(Host())
        states = {name: absence or silent.get(name) for name, absence in collectors.states.items()}
        return states, collectors.notes()
    finally:
        collectors.close()


def _notes(providers: dict[str, Provider], settings: Settings) -> Iterator[str]:
    if not any(provider.switched_on for provider in providers.values()):
        yield (
            "nothing is switched on; to switch everything on: "
            f"export {PROVIDERS_VARIABLE}={SYSMETRICS},{SYSMONITOR}"
        )
    if _is_vetoed():
        yield (
            f"{_MLFLOW_SWITCH}={os.environ[_MLFLOW_SWITCH]} keeps runs from being sampled unless "
            "they ask for it"
        )
    if job := describe_job():
        yield job
    if error := host_tags().get("sysmetrics.error"):
        yield f"some facts could not be read: {error}"
    folder = settings.spool_folder
    if folder is not None and (files := own_spool_files(folder)):
        yield (
            f"unsent samples are in {folder} (files: {len(files)}); a later run with the same "
            "tracking store sends them, and so does `mlflow-sysmetrics upload`"
        )


def _is_vetoed() -> bool:
    return os.environ.get(_MLFLOW_SWITCH, "").lower() in {"false", "0"}


def _problems(providers: dict[str, Provider], settings: Settings) -> Iterator[str]:
    for name, provider in providers.items():
        if not provider.switched_on:
            continue
        if not provider.installed:
            yield f"{name} is switched on but not installed: pip install mlflow-sysmetrics"
        if provider.detached is not None:
            yield f"{name} is switched on but not attached: {provider.detached}"
    folder = settings.spool_folder
    if folder is not None and providers[SYSMONITOR].switched_on:
        with Isolated():  # a file system that hangs; the run's own warning says so
            if reason := files_at(str(folder)).call(why_not_writable, str(folder)):
                yield (
                    f"samples are lost if a run ends while its tracking server is away: {reason}; "
                    "set MLFLOW_SYSMETRICS_SPOOL_DIR to a folder that can be written to"
                )
