"""The exporter that writes files for node_exporter's textfile collector: one a run."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog.exported import prometheus_label
from mlflow_sysmetrics.export.contract import CannotExport, Exporter
from mlflow_sysmetrics.export.latest import RunValues
from mlflow_sysmetrics.export.text_folder import (
    count_files,
    remove_stale,
    why_not_written,
    write_file,
)
from mlflow_sysmetrics.export.thread import ExportThread
from mlflow_sysmetrics.host.file_helper import files_at
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.settings import TEXT_FILE

if TYPE_CHECKING:
    from mlflow_sysmetrics.catalog.exported import Attributes, Instrument
    from mlflow_sysmetrics.export.contract import ExportedRun, Sample

KEPT_S = 120.0
"""How long a file stays after the end of its run."""

_CLEANING_INTERVAL_S = 60.0


def open_text_file(target: str) -> TextFileExporter:
    """Begin to write; whether that works shows with the first file."""
    return TextFileExporter(target.removeprefix(TEXT_FILE))


def describe_text_file(target: str) -> str:
    """What is in the folder, for a person to read.

    Raises:
        CannotExport: It cannot be written to.
    """
    folder = target.removeprefix(TEXT_FILE)
    files = files_at(folder)
    try:
        if reason := files.call(why_not_written, folder):
            raise CannotExport(f"{reason}; {_ADVICE}")
        return f"files of runs: {files.call(count_files, folder, time.time())}"
    except OSError as error:
        raise CannotExport(f"{error}; {_ADVICE}") from error


_ADVICE = "name a folder that exists, that this user may write to and that node_exporter reads"


class TextFileExporter(Exporter):
    """See `Exporter` for its methods.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._runs: dict[ExportedRun, _RunFile] = {}
        self._waiting: dict[str, tuple[str, float]] = {}
        self._cleaned_s = 0.0
        self._thread = ExportThread("textfile", self._write)

    def put(self, sample: Sample) -> None:
        """Write the run's file anew."""
        with self._lock:
            file = self._runs.get(sample.run)
            if file is None:
                file = self._runs[sample.run] = _RunFile(sample)
            else:
                file.values.put(sample)
            self._hand_over(file, sample.taken_s + file.values.life_s)

    def end(self, run: ExportedRun) -> None:
        """Let the run's file stand as it is, for a while."""
        with self._lock:
            file = self._runs.pop(run, None)
            if file is not None:
                self._hand_over(file, time.time() + KEPT_S)

    def wait(self, timeout_s: float) -> None:
        """Wait for the files."""
        self._thread.wait(timeout_s)

    def after_fork_in_child(self) -> None:
        """A child has no thread, and so nothing to let go of."""

    def _hand_over(self, file: _RunFile, stale_from_s: float) -> None:
        """Of each file the newest content waits to be written."""
        self._waiting[file.name] = (file.text(), stale_from_s)
        self._thread.wake()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        files = files_at(self._folder)
        try:
            for name, (text, stale_from_s) in waiting.items():
                files.call(write_file, self._folder, name, text, stale_from_s)
            if time.monotonic() - self._cleaned_s > _CLEANING_INTERVAL_S:
                self._cleaned_s = time.monotonic()
                files.call(remove_stale, self._folder, time.time())
        except OSError as error:
            warn_once(
                f"samples are not written to {self._folder} for Prometheus: {error}; it is tried "
                f"again with every sample. {_ADVICE[0].upper()}{_ADVICE[1:]}",
                f"export {self._folder}",
            )


class _RunFile:
    """The file of one run.

    Args:
        sample: The first of the run.

    Attributes:
        name: Its name.
        values: What is to be in it.
    """

    def __init__(self, sample: Sample) -> None:
        run = sample.run
        node = f"_{run.node}" if run.settings.node_id else ""  # the folder may be shared
        self.name = f"mlflow_{re.sub(r'[^A-Za-z0-9-]', '_', run.run_id + node)}.prom"
        self.values = RunValues(sample)
        self._lines: dict[tuple[str, Attributes], str] = {}

    def text(self) -> str:
        """What is to be in it, in Prometheus's text format."""
        families: dict[str, list[str]] = {}
        for instrument, attributes, value in self.values.series():
            lines = families.get(instrument.name)
            if lines is None:
                lines = families[instrument.name] = [_head(instrument)]
            key = (instrument.name, attributes)
            before_value = self._lines.get(key)
            if before_value is None:
                before_value = self._lines[key] = _before_value(instrument, attributes)
            lines.append(f"{before_value}{value!r}\n")
        return "".join(line for lines in families.values() for line in lines)


def _head(instrument: Instrument) -> str:
    name = instrument.prometheus_name
    description = instrument.description.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {description}\n# TYPE {name} {instrument.prometheus_type}\n"


def _before_value(instrument: Instrument, attributes: Attributes) -> str:
    labels = ",".join(f'{prometheus_label(name)}="{_escaped(text)}"' for name, text in attributes)
    return f"{instrument.prometheus_name}{{{labels}}} "


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
