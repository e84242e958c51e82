"""The adapter's size and layers."""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.config.checks import at_least


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's size.

    Attributes:
        rank: Width of each LoRA layer.
        alpha: The adapter's output is scaled by ``alpha / rank``.
    """

    rank: int = 8
    alpha: int = 8

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 1, "4 to 32 is usual")
        at_least("lora.alpha", self.alpha, 1, "rank or twice the rank is usual")
