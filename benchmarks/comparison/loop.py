"""A loop of steps of a millisecond, and for how long other threads kept it from running."""

from __future__ import annotations

import os
import time

_STEP_S = 0.001
_SHORTEST_STALL_S = 0.00002  # less is an interrupt, or the clock


def stalls_of_loop(seconds: float) -> list[float]:
    """Work for so long; how long each stall was, in seconds.

    A stall is time in which the thread neither ran nor waited for a CPU, so what other programs
    do on a busy machine does not count: what is left is waiting for the interpreter's lock.
    """
    turns = _turns_a_step()
    stalls = []
    descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    ends_s = time.perf_counter() + seconds
    before = _times(descriptor)
    while before[0] < ends_s:
        _work(turns)
        now = _times(descriptor)
        stall_s = (now[0] - before[0]) - (now[1] - before[1]) - (now[2] - before[2])
        if stall_s > _SHORTEST_STALL_S:
            stalls.append(stall_s)
        before = now
    os.close(descriptor)
    return stalls


def _times(descriptor: int) -> tuple[float, float, float]:
    """Now, CPU time of this thread, and time that it waited for a CPU."""
    waited_ns = int(os.pread(descriptor, 100, 0).split()[1])
    return time.perf_counter(), time.thread_time(), waited_ns / 1e9


def _turns_a_step() -> int:
    turns = 1000
    while True:
        began_s = time.thread_time()
        _work(turns)
        took_s = time.thread_time() - began_s
        if took_s >= _STEP_S:
            return round(turns * _STEP_S / took_s)
        turns *= 2


def _work(turns: int) -> None:
    for _ in range(turns):
        pass
