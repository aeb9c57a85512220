"""The exporters, by the name that a target begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.export.contract import CannotExport
from mlflow_sysmetrics.export.otlp import describe_otlp, open_otlp
from mlflow_sysmetrics.export.prometheus import describe_prometheus, open_prometheus
from mlflow_sysmetrics.export.text_file import describe_text_file, open_text_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.export.contract import Exporter


class ExporterKind(NamedTuple):
    """One way to export; both functions get the target as it stands in the setting.

    Both raise `CannotExport` where there is something for the user to do.

    Attributes:
        name: What its targets begin with.
        open: Opens it; returns at once.
        describe: Says, for `doctor`, what is there now, for a person to read.
    """

    name: str
    open: Callable[[str], Exporter]
    describe: Callable[[str], str]


EXPORTERS = (
    ExporterKind("prometheus", open_prometheus, describe_prometheus),
    ExporterKind("textfile", open_text_file, describe_text_file),
    ExporterKind("otlp", open_otlp, describe_otlp),
)


def kind_of(target: str) -> ExporterKind:
    """The kind of a target, such as `prometheus:9464`.

    Raises:
        CannotExport: There is none.
    """
    for kind in EXPORTERS:
        if target.partition(":")[0] == kind.name:
            return kind
    raise CannotExport(f"there is no exporter for {target}")
