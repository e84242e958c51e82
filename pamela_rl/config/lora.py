"""The adapter's size, layers and beginning."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from pamela_rl.config.checks import at_least, require

INITS = ("gaussian", "kaiming")
_OTHER_KINDS = {
    "dora": "scales the base model's own weights anew for every person",
    "locon": "adapts convolutions",
    "loha": "multiplies two adapters weight by weight",
    "lokr": "is a Kronecker product",
    "oft": "rotates the base model's weights",
}


@dataclass(frozen=True)
class LoraSettings:
    """The adapter.

    Attributes:
        rank: Width of each LoRA layer.
        alpha: The adapter's output is scaled by ``alpha / rank``, …
        rslora: … or by ``alpha / sqrt(rank)``, which keeps updates of one size at every rank (arXiv:2312.03732).
        dropout: Share of each layer's inputs that the adapter does not see while it learns. What an image loses at a noise
            level follows from the seed, the iteration, its number and that level, and is the same for all of its tokens.
            Nothing is lost where images are sampled; algorithms that need the density of what was sampled refuse it.
        init: Of the first matrices, the second ones being zero: "gaussian" with a standard deviation of 1 / rank, or
            "kaiming", PEFT's default.
        targets: Names, or ends of names, of the denoiser's linear layers that get one; None is those of diffusers' examples.
        kind: "lora"; other kinds cannot be trained for many people in one call.
    """

    rank: int = 8
    alpha: int = 8
    rslora: bool = False
    dropout: float = 0.0
    init: str = "gaussian"
    targets: list[str] | None = None
    kind: str = "lora"

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 1, "4 to 32 is usual")
        at_least("lora.alpha", self.alpha, 1, "rank or twice the rank is usual")
        require(
            0 <= self.dropout < 1, f"lora.dropout is {self.dropout}; use 0, which drops nothing, to below 1, e.g. 0.1."
        )
        require(
            self.init in INITS,
            f"lora.init is {self.init!r}; use {' or '.join(INITS)}: an adapter must begin as the base model, whose weights "
            "people share, so nothing is taken out of these.",
        )
        require(self.targets is None or len(self.targets) > 0, "lora.targets is empty; name layers, or leave it out.")
        reason = _OTHER_KINDS.get(self.kind.lower(), "is not known here")
        require(
            self.kind == "lora",
            f"lora.kind is {self.kind!r}, which {reason}; people's adapters are added to the outputs of linear layers that "
            "all share, so use 'lora'.",
        )

    @property
    def scale(self) -> float:
        """What the adapter's output is multiplied by."""
        return self.alpha / (sqrt(self.rank) if self.rslora else self.rank)
