"""Space on a file system, as psutil and `df` count it, with the standard library alone."""

from __future__ import annotations

import os


def read_space(path: str) -> tuple[float, int, int, int]:
    """Percent in use of what users may use; bytes in use, free for users, and in all.

    A plain tuple, for the helper process may be the one that reads it.

    Raises:
        OSError: The file system refuses.
    """
    stat = os.statvfs(path)
    total_bytes = stat.f_blocks * stat.f_frsize
    used_bytes = total_bytes - stat.f_bfree * stat.f_frsize
    free_bytes = stat.f_bavail * stat.f_frsize
    for_users_bytes = used_bytes + free_bytes
    percent = round(100 * used_bytes / for_users_bytes, 1) if for_users_bytes else 0.0
    return percent, used_bytes, free_bytes, total_bytes
