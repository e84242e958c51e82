"""Best of N: draw several candidates and keep the one with the highest reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.types import ImageGenerator, Reward, trainable


class BestOfN:
    """An ``ImageGenerator`` for one user: of N candidates per prompt and seed, the one with the highest reward.

    The first candidate has the given seed itself, so more candidates never lower the reward. Candidates are scored for
    the given prompt, even if ``generate`` rewrites it.

    Args:
        generate: Draws the candidates.
        reward: The user's; a judge is refused.
        user_id: The user.
        num_candidates: N; 1 is ``generate`` itself.
        std_weight: Of the reward's std in the lower confidence bound by which candidates are compared.
        batch_size: Candidates drawn and scored at a time.

    Attributes:
        images_spent: Images drawn so far.

    Raises:
        ConfigError: A number is below 1.
    """

    def __init__(
        self,
        generate: ImageGenerator,
        reward: Reward,
        user_id: str,
        num_candidates: int = 8,
        std_weight: float = 0.0,
        batch_size: int = 32,
    ):
        for name, value in (("num_candidates", num_candidates), ("batch_size", batch_size)):
            if value < 1:
                raise ConfigError(f"{name} of best-of-N is {value}; use 1 or more.")
        self.generate, self.reward, self.user_id = generate, reward, user_id
        self.num_candidates, self.std_weight, self.batch_size = num_candidates, std_weight, batch_size
        self.images_spent = 0

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return the best candidate of each prompt and seed, ``(b, 3, height, width)``.

        Of tied candidates the first is kept; one with a NaN reward only if all rewards are NaN.
        """
        best: list[Tensor] = [torch.empty(0)] * len(prompts)
        best_scores = [-float("inf")] * len(prompts)
        candidates = [(row, candidate) for row in range(len(prompts)) for candidate in range(self.num_candidates)]
        for first in range(0, len(candidates), self.batch_size):
            batch = candidates[first : first + self.batch_size]
            batch_prompts = [prompts[row] for row, _ in batch]
            images = self.generate(batch_prompts, [candidate_seed(seeds[row], candidate) for row, candidate in batch])
            self.images_spent += len(batch)
            for (row, candidate), image, score in zip(batch, images, self._scores(images, batch_prompts), strict=True):
                if candidate == 0 or score > best_scores[row]:  # false for NaN
                    best[row] = image.clone()  # not a view, which would keep the whole batch
                    best_scores[row] = score if score == score else -float("inf")
        return torch.stack(best)

    def _scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        output = trainable(self.reward(images, prompts, [self.user_id] * len(prompts)))
        penalty = 0.0 if output.std is None else self.std_weight * output.std
        scores: list[float] = (output.mean - penalty).tolist()
        return scores


def candidate_seed(seed: int, candidate: int) -> int:
    """Return the seed of a candidate: ``seed`` itself for the first, for the others below 2**31, as services require."""
    if candidate == 0:
        return seed
    return int(np.random.SeedSequence((seed, candidate)).generate_state(1)[0]) >> 1
