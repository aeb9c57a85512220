"""How sending over OTLP fails."""

from __future__ import annotations


class NotSent(Exception):  # noqa: N818 - an outcome, not an error of ours
    """The receiver took nothing; the message says why, without secrets.

    Attributes:
        is_final: Whether it will never take this.
    """

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final
