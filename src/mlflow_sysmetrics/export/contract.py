"""What an exporter gets, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_sysmetrics.catalog.exported import Attributes, Exported
    from mlflow_sysmetrics.settings import Settings


def require_extra(extra: str, module: str) -> None:
    """Check that what an exporter needs is installed, without importing it.

    Args:
        extra: The extra of this package that brings it.
        module: A module of it.

    Raises:
        CannotExport: It is not.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # a package that it would be in
        found = None
    if found is None:
        raise CannotExport(
            f"{module} is not installed; `pip install 'mlflow-sysmetrics[{extra}]'` brings it"
        )


class CannotExport(Exception):  # noqa: N818 - an answer to the user's wish, not a failure of ours
    """A target cannot be exported to; the message says why, and what to do."""


@dataclass(frozen=True, eq=False)
class ExportedRun:
    """An open run of this process; one object for each opening.

    Attributes:
        run_id: The run.
        settings: In force for it.
        names: Gives what only the info series says (experiment, run name, user, host, GPU model);
            None while that is not known. Must not wait.
    """

    run_id: str
    settings: Settings
    names: Callable[[], Mapping[str, str] | None]

    @property
    def node(self) -> str:
        """The label `node`: the host's number in a job, or the name that the user gave it."""
        return (self.settings.node_id or "0").removeprefix("node_")


class Measurement(NamedTuple):
    """One value of one series.

    Attributes:
        exported: The series, but for the labels of the run; the same object in all samples.
        value: In the instrument's unit; of a counter, what it rose by since `Sample.started_s`.
        time_s: When it was read, in seconds since the epoch.
    """

    exported: Exported
    value: float
    time_s: float


@dataclass(frozen=True)
class Sample:
    """What one sample says of one run.

    The open runs of a process have the same host and process tree. Their series stand once, under
    the id of the run that has been open longest; of the others there is the info series alone.

    Attributes:
        run: The run.
        series_run_id: The run whose id the series carry.
        started_s: When the counters were 0, in seconds since the epoch.
        taken_s: When the sample was taken, in seconds since the epoch.
        measurements: What was read; nothing where the series are another run's. A series that was
            not read this time is not in it.
        info: Attributes of the info series beside run_id and node; empty while they are not known.
    """

    run: ExportedRun
    series_run_id: str
    started_s: float
    taken_s: float
    measurements: Sequence[Measurement]
    info: Attributes

    @property
    def labels(self) -> Attributes:
        """Labels of each of its series."""
        return (("run_id", self.run.run_id), ("node", self.run.node))


class Exporter(Protocol):
    """One target, to which all open runs of this process are exported.

    Only the sampling process has one, and no forked child: what it opens it registers for that.
    """

    def put(self, sample: Sample) -> None:
        """Take a sample, from the sampler's thread; never blocks."""

    def end(self, run: ExportedRun) -> None:
        """No sample of a run will follow; returns at once."""

    def wait(self, timeout_s: float) -> None:
        """Wait until all that was put is handed on, or for a timeout."""

    def after_fork_in_child(self) -> None:
        """Let go, in a forked child, of what is the parent's; must not fail."""
