"""Images that a person rated, in the place of a rollout: what algorithms learn from that sample nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import LearnsFrom
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import rows_by_epoch
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import DataError
from pamela_rl.types import PromptBatch, Trajectory


@dataclass(frozen=True)
class RatedExamples:
    """One person's rated images. Draws them epoch by epoch, and recalls them as if they had been sampled.

    Attributes:
        user_id: Who rated.
        images: RGB in [0, 1] at the policy's size, ``(n, 3, height, width)``.
        prompts: What each was made for, ``(n,)``.
        ratings: Mean rating of each; without ratings, wins minus losses over choices, ``(n,)``.
        pairs: Rows of a preferred image and of the one it was preferred to, ``(p, 2)``.
    """

    user_id: str
    images: Tensor
    prompts: tuple[str, ...]
    ratings: Tensor
    pairs: Tensor
    _latents: dict[Policy, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        user_id: str,
        images: Tensor,
        prompts: Sequence[str],
        ratings: Tensor,
        choices: Tensor | None = None,
    ) -> RatedExamples:
        """Collect examples; without ``choices``, any two images of different ratings are a pair.

        Args:
            user_id: Who rated.
            images: As the attribute.
            prompts: One an image.
            ratings: Mean rating of each, NaN where there is none, ``(n,)``.
            choices: Rows of preferred and other images, ``(p, 2)``.

        Raises:
            DataError: There is no image that was liked better than another.
        """
        better = ratings[:, None] > ratings[None]  # never with NaN
        pairs = better.nonzero() if choices is None else choices
        if not len(pairs):
            raise DataError(
                f"none of {user_id}'s {len(images)} images is liked better than another; rate some lower than others."
            )
        if not bool(ratings.isfinite().any()):
            wins = torch.zeros(len(images), dtype=torch.float64)
            ratings = wins.index_add(0, pairs[:, 0], torch.ones(len(pairs), dtype=torch.float64)).index_add(
                0, pairs[:, 1], -torch.ones(len(pairs), dtype=torch.float64)
            )
        return cls(user_id, images, tuple(prompts), ratings.double(), pairs)

    @property
    def fingerprint(self) -> str:
        """Hash of images, prompts, ratings and pairs. A run with another fingerprint is another run."""
        digest = hashlib.sha256("\n".join(self.prompts).encode("utf-8", "surrogatepass"))
        for part in (self.images, self.ratings, self.pairs):
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def draw(self, iteration: int, kind: LearnsFrom, config: TrainConfig) -> PromptBatch:
        """Draw an iteration's images: single ones, or pairs, whose images are neighbours and form a group."""
        rows = self._rows(iteration, kind, config)
        groups = torch.arange(len(rows)) // 2 if kind == "pairs" else torch.zeros(len(rows), dtype=torch.long)
        prompts = tuple(self.prompts[row] for row in rows.tolist())
        return PromptBatch(prompts, (self.user_id,) * len(rows), groups, torch.arange(len(rows)))

    def recall(
        self, policy: Policy, batch: PromptBatch, iteration: int, kind: LearnsFrom, config: TrainConfig
    ) -> tuple[Trajectory, Tensor, Tensor]:
        """Return a drawn batch as a rollout would, its ratings, and its advantages.

        Returns:
            The trajectory without kept steps; ratings, ``(b,)``; and advantages, ``(b,)``: of single images ratings in
            standard deviations from the person's mean, of pairs 1 for the preferred image and -1 for the other.
        """
        rows = self._rows(iteration, kind, config)[batch.image_ids]
        ratings = self.ratings.nan_to_num(nan=float(self.ratings.nanmean()))  # of images known by choices alone
        if kind == "pairs":
            advantages = 1 - 2 * (batch.image_ids % 2).double()
        else:
            z = (ratings - ratings.mean()) / ratings.std(correction=0).clamp(min=1e-6)
            advantages = z[rows].clamp(-config.advantages.clip, config.advantages.clip)
        if config.advantages.zero:
            advantages = torch.zeros_like(advantages)
        device, unique = policy.device, {p: row for row, p in enumerate(dict.fromkeys(batch.prompts))}
        latents = self._encoded(policy, config.sampled_at_once)[rows].to(device)
        none = latents.new_zeros(len(rows), 0, *latents.shape[1:])
        trajectory = Trajectory(
            image_ids=batch.image_ids,
            images=self.images[rows],
            final_latents=latents,
            latents=none,
            next_latents=none,
            step_index=torch.zeros(len(rows), 0, dtype=torch.long, device=device),
            log_probs=latents.new_zeros(len(rows), 0),
            means=None,
            conditioning=policy.encode(list(unique)),
            prompt_index=torch.tensor([unique[prompt] for prompt in batch.prompts], device=device),
            negative=policy.encode_negative(config.sampling.negative_prompt, config.sampling.guidance_scale),
        )
        return trajectory, ratings[rows].float().to(device), advantages.float().to(device)

    def _encoded(self, policy: Policy, batch_size: int) -> Tensor:
        """Latents of all images, on the CPU; encoded once a policy."""
        if policy not in self._latents:
            parts = [policy.encode_images(part).cpu() for part in self.images.split(batch_size)]
            self._latents[policy] = torch.cat(parts)
        return self._latents[policy]

    def _rows(self, iteration: int, kind: LearnsFrom, config: TrainConfig) -> Tensor:
        """Rows of an iteration's images, without replacement within an epoch, ``(b,)``."""
        items = self.pairs if kind == "pairs" else torch.arange(len(self.images))[:, None]
        count = config.images_per_iteration // items.shape[1]
        rows = rows_by_epoch(len(items), iteration * count, count, config.seed)
        return items[torch.tensor(rows)].flatten()
