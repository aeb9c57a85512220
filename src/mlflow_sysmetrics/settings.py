"""Settings: the environment variables that set them, validated and documented in one place.

An invalid value is described in `Settings.problems`, and the default is used; nothing here raises.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.catalog import METRICS, PREFIX, STATISTICS, SUMMARY, summary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIN_INTERVAL_S = 0.01
MAX_INTERVAL_S = 86_400.0


def _interval_s(text: str) -> float:
    return _number_between(text, MIN_INTERVAL_S, MAX_INTERVAL_S)


def _timeout_s(text: str) -> float:
    return _number_between(text, 0.0, 3600.0)


def _number_between(text: str, low: float, high: float) -> float:
    number = float(text)
    if not low <= number <= high:  # which nan never is
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _node_id(text: str) -> str | None:
    if not text:
        return None
    if re.fullmatch(r"[\w.\- ]{1,100}", text, re.ASCII) is None or text.strip(".") == "":
        raise ValueError(text)
    return text


def _folder(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if path.parts[:1] == ("~",):  # `expanduser` takes an empty HOME for the root folder
        path = _home().joinpath(*path.parts[1:])
    return path.expanduser().absolute()


def _globs(text: str) -> tuple[str, ...]:
    return tuple(glob for part in text.split(",") if (glob := part.strip()))


def _gpus(text: str) -> str:
    if text.lower() not in {"visible", "used", "all"}:
        raise ValueError(text)
    return text.lower()


def _which_hosts(text: str) -> str:
    if text.lower() not in {"auto", "all", "off"}:
        raise ValueError(text)
    return text.lower()


def _switch(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


OFF = "off"
_NUMBERED = range(16)  # devices, of which a glob may name one


def _summary(text: str) -> tuple[str, ...]:
    if text.lower() == OFF:
        return (OFF,)
    globs = _globs(text)
    if unknown := [glob for glob in globs if not _is_of_summary(glob)]:
        raise ValueError(unknown)
    return globs


def _is_of_summary(glob: str) -> bool:
    """Whether some summary could have a value of such a name."""
    own = (each.name for each in SUMMARY)
    made = (
        summary_name(metric.key.format(index=number, instance=number), statistic)
        for metric in METRICS
        for statistic in STATISTICS
        for number in (_NUMBERED if "{" in metric.key else (0,))
    )
    return any(fnmatch.fnmatchcase(name, glob) for name in (*own, *made))


PROMETHEUS = re.compile(
    r"prometheus(:((?P<host>[^:]+|\[[0-9a-fA-F:.%]+\]):)?(?P<first>\d{1,5})(-(?P<last>\d{1,5}))?)?"
)
"""`prometheus`, `prometheus:9464` or `prometheus:0.0.0.0:9464-9479`."""

TEXT_FILE = "textfile:"
_MAX_PORT = 65_535


def _export(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_export_target, _globs(text))))


def _export_target(text: str) -> str:
    if text.startswith(TEXT_FILE):
        folder = _folder(text.removeprefix(TEXT_FILE).strip())
        if folder is None:
            raise ValueError(text)
        return f"{TEXT_FILE}{folder}"
    prometheus = PROMETHEUS.fullmatch(text)
    if prometheus is not None:
        ports = [int(prometheus[name]) for name in ("first", "last") if prometheus[name]]
        if ports == sorted(ports) and all(0 < port <= _MAX_PORT for port in ports):
            return text
    if text != "otlp":
        raise ValueError(text)
    return text


def _findings(text: str) -> str:
    if text.lower() not in {"on", OFF, "describe"}:
        raise ValueError(text)
    return text.lower()


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    Attributes:
        name: Name in the environment.
        field: Name of the `Settings` field that it sets.
        parse: Text to value; raises ValueError if invalid.
        allowed: Allowed values, for the warning and the reference.
        meaning: What it does, for the reference.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    allowed: str
    meaning: str

    @property
    def default(self) -> Any:  # noqa: ANN401 - of any field
        """Value where the variable is not set."""
        return getattr(Settings, self.field)

    @property
    def default_text(self) -> str:
        """The same, as a user would write it."""
        if self.field == "summary":
            return "the usual values"
        return shown_value(self.default)


def shown_value(value: Any) -> str:  # noqa: ANN401 - of any field
    """The value of a setting, as a user would write it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value)


VARIABLES = (
    Variable(
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL",
        "sampling_interval_s",
        _interval_s,
        f"a number of seconds from {MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g}",
        "Seconds between two samples.",
    ),
    Variable(
        "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING",
        "samples_before_logging",
        _count,
        "a whole number from 1 on",
        "Number of samples that are combined into one logged point.",
    ),
    Variable(
        "MLFLOW_SYSTEM_METRICS_NODE_ID",
        "node_id",
        _node_id,
        "up to 100 ASCII letters, digits, spaces, and any of _ - .",
        "Name of this node in a multi-node run: metrics are logged as `system/<node id>/…`.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_INCLUDE",
        "include",
        _globs,
        "comma-separated globs over metric keys, such as `process/*,gpu_*`",
        "Log only metrics that match one of these globs; empty for all.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_EXCLUDE",
        "exclude",
        _globs,
        "comma-separated globs over metric keys, such as `disk*`",
        "Do not log metrics that match one of these globs; wins over INCLUDE.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_EXCLUDE_TAGS",
        "exclude_tags",
        _globs,
        "comma-separated globs over tag keys, such as `sys.hostname,sys.k8s_*`",
        "Do not set tags that match one of these globs.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_GPUS",
        "gpus",
        _gpus,
        "`visible`, `used` or `all`",
        "Which of the host's GPUs to record: those that CUDA, ROCm or oneAPI shows this process, "
        "those that a process of its tree uses, or all. Read when the first run of a process "
        "opens.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_GPU_PROFILING",
        "gpu_profiling",
        _switch,
        "`true` or `false`",
        "Also log how busy the parts of NVIDIA GPUs are (SMs, tensor cores, memory bandwidth), "
        "from Hopper on. Read when the first run of a process opens.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_SUMMARY",
        "summary",
        _summary,
        "`off`, or comma-separated globs over names of summary values, `<metric>_<mean|p95|max|"
        "total>`, such as `gpu_*_mean,samples`",
        "Which values the run's summary has, 25 at most; empty for the usual ones.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_FINDINGS",
        "findings",
        _findings,
        "`on`, `off` or `describe`",
        "Whether the run says what was wrong with it; with `describe` also in its description, "
        "unless it has one.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_FINDINGS_EXCLUDE",
        "findings_exclude",
        _globs,
        "comma-separated globs over ids of findings, such as `swap-used,*-overprovisioned`",
        "Leave out findings that match one of these globs.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_DISTRIBUTED",
        "distributed",
        _which_hosts,
        "`auto`, `all` or `off`",
        "What a job of several processes logs to the run of rank 0: with `auto` every rank of its "
        "host, and the main metrics of every other host; with `all` all metrics of every host; "
        "with `off` rank 0's own process and host alone.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_EXPORT",
        "export",
        _export,
        "any of `prometheus`, `prometheus:PORT`, `prometheus:HOST:PORT-PORT`, "
        "`textfile:DIRECTORY` and `otlp`, comma-separated",
        "Where else the samples go, live: to Prometheus, which scrapes the first free port "
        "(by default of 9464 to 9479, on 127.0.0.1) or reads files in a folder, and over OTLP.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_FLUSH_TIMEOUT",
        "flush_timeout_s",
        _timeout_s,
        "a number of seconds from 0 to 3600",
        "Longest time that the end of a run waits for its last metrics to be sent.",
    ),
    Variable(
        "MLFLOW_SYSMETRICS_SPOOL_DIR",
        "spool_dir",
        _folder,
        "a folder, such as `/scratch/me/spool`",
        "Folder for samples that could not be sent in time, for `mlflow-sysmetrics upload`. "
        "By default, on Linux: `~/.local/state/mlflow-sysmetrics/spool`, on macOS "
        "`~/Library/Application Support/…`, on Windows `%LOCALAPPDATA%\\…`.",
    ),
)


@dataclass(frozen=True)
class Settings:
    """The settings of one run, read when it opens.

    Attributes:
        sampling_interval_s: Seconds between two samples.
        samples_before_logging: Samples in one logged point.
        node_id: Inserted into the keys of a multi-node run; None for no such part.
        include: Globs of the metrics to log; empty for all.
        exclude: Globs of the metrics not to log.
        exclude_tags: Globs of the tags not to set.
        gpus: Which GPUs are the run's: `visible`, `used` or `all`.
        gpu_profiling: Whether to read how busy the parts of GPUs are.
        summary: Globs of the summary's values; empty for the usual ones, `off` for none.
        findings: `on`, `off` or `describe`.
        findings_exclude: Globs of the findings to leave out.
        distributed: What other processes of a job log: `auto`, `all` or `off`.
        export: Targets to which the samples are exported beside the run's store.
        flush_timeout_s: Bound on what the end of a run waits.
        spool_dir: Folder for samples that could not be sent; None for the user's own.
        origins: By field: the variable that set it.
        problems: A sentence about each invalid variable.
    """

    sampling_interval_s: float = 10.0
    samples_before_logging: int = 1
    node_id: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_tags: tuple[str, ...] = ()
    gpus: str = "visible"
    gpu_profiling: bool = False
    summary: tuple[str, ...] = ()
    findings: str = "on"
    findings_exclude: tuple[str, ...] = ()
    distributed: str = "auto"
    export: tuple[str, ...] = ()
    flush_timeout_s: float = 5.0
    spool_dir: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    problems: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `environ`, by default this process's."""
        environ = os.environ if environ is None else environ
        texts = {
            variable.field: text
            for variable in VARIABLES
            if (text := environ.get(variable.name)) is not None
        }
        values, refused = _parsed(texts)
        return cls(
            **values,
            origins={each.field: each.name for each in VARIABLES if each.field in values},
            problems=tuple(
                f"{each.name}={texts[each.field]!r} is not {each.allowed}; "
                f"using the default, {each.default_text}"
                for each in refused
            ),
        )

    @property
    def spool_folder(self) -> Path | None:
        """The folder in force; None if none is set and the user has no home."""
        return self.spool_dir or _default_spool_folder()

    @property
    def has_summary(self) -> bool:
        """Whether a run gets a summary."""
        return self.summary != (OFF,)

    @property
    def has_findings(self) -> bool:
        """Whether a run gets findings."""
        return self.findings != OFF

    def wants(self, key: str) -> bool:
        """Whether to log a metric; globs match its key with or without `system/`."""
        return _is_wanted(key, self.include, self.exclude)

    def overridden(self, **arguments: Any) -> Settings:  # noqa: ANN401 - values of any field
        """These settings with other values for some fields, checked like the variables.

        Args:
            arguments: Value by field name; None leaves the field as it is.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        values, refused = _parsed(given)
        problems = (
            f"{each.field}={given[each.field]!r} is not {each.allowed}; "
            f"using {getattr(self, each.field)}"
            for each in refused
        )
        return replace(self, **values, problems=(*self.problems, *problems))


def _parsed(given: Mapping[str, object]) -> tuple[dict[str, Any], list[Variable]]:
    """Valid values by field name, and the variables with invalid ones."""
    values: dict[str, Any] = {}
    refused = []
    for variable in VARIABLES:
        if variable.field in given:
            try:
                values[variable.field] = variable.parse(str(given[variable.field]).strip())
            except (ValueError, RuntimeError):  # of a `~` without a home
                refused.append(variable)
    return values, refused


def _default_spool_folder() -> Path | None:
    """The folder for state that outlives a program; None for a user without a home."""
    try:
        return _state_folder() / "mlflow-sysmetrics" / "spool"
    except RuntimeError:
        return None


def _state_folder() -> Path:
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA") or _home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support"
    return _absolute("XDG_STATE_HOME") or _home() / ".local" / "state"


def _absolute(variable: str) -> Path | None:
    """The folder that a variable of the system names; None if it names none."""
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else None


def _home() -> Path:
    """The user's home: what HOME names, or else the system's list of users.

    Raises:
        RuntimeError: There is none; the root folder is no home.
    """
    if sys.platform == "win32":
        return Path.home()
    home = _absolute("HOME") or _home_of_user()
    if home is None or home == Path(home.anchor):
        raise RuntimeError("this user has no home")
    return home


def _home_of_user() -> Path | None:
    if sys.platform == "win32":
        return None
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without an entry, as in many containers
        return None
    return home if home.is_absolute() else None


@lru_cache(maxsize=4096)
def _is_wanted(key: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    def matches(globs: tuple[str, ...]) -> bool:
        return matches_any(key, globs) or matches_any(PREFIX + key, globs)

    return not matches(exclude) and (not include or matches(include))


def matches_any(key: str, globs: tuple[str, ...]) -> bool:
    """Whether one of the globs matches a key."""
    return any(fnmatch.fnmatchcase(key, glob) for glob in globs)
