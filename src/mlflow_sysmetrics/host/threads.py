"""The one place where threads are started."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
    """Start a daemon thread: it never keeps the process from ending.

    Args:
        name: What follows `mlflow-sysmetrics-` in the thread's name.
        target: What it runs.
        arguments: What `target` is called with.

    Raises:
        RuntimeError: The interpreter is shutting down, or the system has no room for a thread.
    """
    thread = threading.Thread(
        target=target, args=arguments, name=f"mlflow-sysmetrics-{name}", daemon=True
    )
    thread.start()
    return thread
