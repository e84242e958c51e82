"""DDPO-SF: the score-function estimator, REINFORCE over denoising steps (Black et al., arXiv:2305.13301, equation 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pamela_rl.algorithms.algorithm import require
from pamela_rl.algorithms.policy_gradient import Pairs, PolicyGradient


@dataclass(frozen=True)
class DDPOSF(PolicyGradient):
    """DDPO with the score function: unbiased for the policy that sampled the images, so one optimizer step an iteration.

    Attributes:
        num_updates: Optimizer steps a pass; 1, since a second would be off-policy.
    """

    num_updates: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.num_updates * self.num_inner_epochs
        require(
            steps == 1,
            f"{self.name} takes {steps} optimizer steps an iteration (num_updates x num_inner_epochs); the score function "
            "holds only for the policy that sampled the images: use 1 and 1, or ddpo.",
        )

    def objective(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the negated score of each pair, weighed by its advantage, and its ratio."""
        return -pairs.advantages * pairs.log_probs, pairs.ratio
