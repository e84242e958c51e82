"""DDPO: importance-sampled, clipped policy gradient over denoising steps (Black et al., arXiv:2305.13301)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pamela_rl.algorithms.algorithm import require
from pamela_rl.algorithms.policy_gradient import Pairs, PolicyGradient, clipped_loss


@dataclass(frozen=True)
class DDPO(PolicyGradient):
    """DDPO-IS, with a KL to the reference that the paper does not have.

    Attributes:
        clip_range: How far the ratio may leave 1; small, since log-probabilities are means over latent dimensions.
    """

    clip_range: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.clip_range < 1,
            f"{self.name}'s clip_range is {self.clip_range}; use 0 < clip_range < 1, e.g. 1e-4.",
        )

    @property
    def trust(self) -> float:
        """How far the ratio may leave 1 before a pair counts as clipped."""
        return self.clip_range

    @property
    def ratio_tolerance(self) -> float:
        """How far the ratio may be from 1 before the first update where kernels round differently."""
        return min(self.clip_range, 1e-3)

    def objective(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the clipped loss of each pair, and its ratio."""
        return clipped_loss(pairs.ratio, pairs.advantages, self.clip_range), pairs.ratio
