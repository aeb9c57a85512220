"""The only way to the machine: files, commands, clock, threads and forks."""

from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.errors import Absent, Transient, Unavailable
from mlflow_sysmetrics.host.host import Host

__all__ = ["Absent", "Clock", "Host", "Transient", "Unavailable"]
