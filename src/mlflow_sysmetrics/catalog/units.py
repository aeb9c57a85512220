"""Sizes as tags state them."""

from __future__ import annotations


def gigabytes(size_bytes: int) -> str:
    """10^9 bytes, two decimals at most: `540.63`."""
    return str(round(size_bytes / 1e9, 2))
