"""Which checkpoints stay."""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.config.checks import at_least


@dataclass(frozen=True)
class KeepSettings:
    """Which checkpoints stay beside the best, which always does; each of them can be exported as an adapter.

    Attributes:
        every: Every so-many-th checkpoint stays for good; 0 is none.
        last: How many of the newest stay.
    """

    every: int = 0
    last: int = 1

    def __post_init__(self) -> None:
        at_least("keep.every", self.every, 0, "0 keeps none for good, 1 keeps all")
        at_least("keep.last", self.last, 1, "the newest is what a run resumes from")
