"""Best of N: draw several pictures and keep the one that the person's reward likes best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.types import ImageGenerator, Reward, trainable


class BestOfN:
    """An ``ImageGenerator`` for one person: of N candidates a request, the one with the highest reward.

    The first candidate is what ``generate`` makes of the seed itself, so more candidates never lower the reward. What
    is judged is how well a picture answers the request, whatever prompt ``generate`` made of it.

    Args:
        generate: Draws the candidates.
        reward: The person's; a judge is refused.
        user_id: Whose.
        num_candidates: N; 1 is ``generate`` itself.
        std_weight: How many of the reward's own stds are taken off its mean before candidates are compared.
        batch_size: Candidates drawn and judged at a time.

    Attributes:
        images_spent: Pictures drawn so far.

    Raises:
        ConfigError: There is not one candidate, or no batch.
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

        Of candidates that tie the first is kept; one whose reward is no number is kept only where all are such.
        """
        kept: list[Tensor] = [torch.empty(0)] * len(prompts)
        highest = [-float("inf")] * len(prompts)
        tasks = [(row, number) for row in range(len(prompts)) for number in range(self.num_candidates)]
        for first in range(0, len(tasks), self.batch_size):
            part = tasks[first : first + self.batch_size]
            asked = [prompts[row] for row, _ in part]
            images = self.generate(asked, [candidate_seed(seeds[row], number) for row, number in part])
            self.images_spent += len(part)
            for (row, number), image, score in zip(part, images, self._scores(images, asked), strict=True):
                if number == 0 or score > highest[row]:  # false for NaN
                    kept[row] = image.clone()  # not a view, which would keep the whole batch
                    highest[row] = score if score == score else -float("inf")
        return torch.stack(kept)

    def _scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        output = trainable(self.reward(images, prompts, [self.user_id] * len(prompts)))
        lowered = 0.0 if output.std is None else self.std_weight * output.std
        scores: list[float] = (output.mean - lowered).tolist()
        return scores


def candidate_seed(seed: int, number: int) -> int:
    """Return the seed of a candidate: ``seed`` itself for the first, for the others below 2**31, as any service takes."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) >> 1
