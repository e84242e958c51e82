"""DiffusionNFT: learn on the forward process from good and bad images, without densities (arXiv:2509.16117)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm, Footprint, require
from pamela_rl.algorithms.forward_process import NoisedImages
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.reference_predictions import ReferencePredictions
from pamela_rl.algorithms.updates import kl_weight, take_updates
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.transitions import Schedule

_METRICS = ("old_mse", "reference_mse")


@dataclass(frozen=True)
class NFT(Algorithm):
    """DiffusionNFT: any sampler, and only the final latents are used.

    ``kl_weight`` weighs the mean squared difference of the denoiser's prediction to the reference's.

    Attributes:
        beta: Distance of the positive and the negative prediction from the old one, in units of the trained one's.
        old_decay_rate: Decay of the old adapter after each iteration, times the optimizer steps taken so far, …
        old_decay_max: … but at most this.
        advantage_scale: Advantage of an image that counts as entirely good; its negative as entirely bad.
    """

    needs_noise: ClassVar[bool] = False
    samples_with_old: ClassVar[bool] = True
    takes_dropout: ClassVar[bool] = True

    num_updates: int = 1
    kl_weight: float = 1e-4
    beta: float = 1.0
    old_decay_rate: float = 1e-3
    old_decay_max: float = 0.5
    advantage_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"nft's beta is {self.beta}; use a positive one, e.g. 1.0 or 0.1.")
        require(self.advantage_scale > 0, f"nft's advantage_scale is {self.advantage_scale}; use a positive one: 5.")
        require(self.old_decay_rate >= 0, f"nft's old_decay_rate is {self.old_decay_rate}; use 0 or more: 0.001.")
        require(0 <= self.old_decay_max < 1, f"nft's old_decay_max is {self.old_decay_max}; use 0 to below 1: 0.5.")

    def kept_steps(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Keep no step: it learns from the final latents."""
        return torch.zeros(len(generators), 0, dtype=torch.long)

    def footprint(self, config: TrainConfig) -> Footprint:
        """The final latents are kept, and at each level noise, noised latents and predictions, old and the base model's."""
        predicted = 1 + (self.kl_weight > 0)
        return Footprint(config.sampling.train_steps * (2 + predicted) + 1, predictions_per_pair=predicted)

    def old_decay(self, update_steps: int) -> float:
        """Return the decay of the old copy after an iteration."""
        return min(self.old_decay_rate * update_steps, self.old_decay_max)

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps."""
        noised = NoisedImages.of(self, learner, experience)
        schedule, latents = noised.schedule, noised.latents
        good = (experience.advantages / self.advantage_scale / 2 + 0.5).clamp(0, 1)
        assert learner.old is not None
        places = (experience, schedule, latents, noised.levels)
        old = learner.predict_all(*places, learner.old.adapter)
        reference = ReferencePredictions(self, learner, *places)

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            at = (batch.image, batch.slot)
            clean, noisy, step, before = noised.clean[batch.image], latents[at], noised.levels[at], old[at]
            now = learner.predict(experience, schedule, noisy, step, batch.image)
            towards = self.beta * (now - before)  # so written, both sides are equal to the bit where nothing moved
            better = _clean_error(schedule.clean(before + towards, noisy, step), clean)
            worse = _clean_error(schedule.clean(before - towards, noisy, step), clean)
            share, known = good[batch.image], experience.mask[batch.image]
            losses = known * (share * better + (1 - share) * worse) * self.advantage_scale / self.beta
            metrics = {"old_mse": _mse(now, before).detach()}
            base = reference.at(batch, first)
            if base is not None:
                metrics["reference_mse"] = (to_reference := _mse(now, base)).detach()
                losses = losses + kl_weight(self, learner) * to_reference if self.kl_weight else losses
            return losses, metrics

        return take_updates(self, learner, experience, loss, _METRICS, "reference_mse")


def _clean_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """Squared error over its own mean absolute error, so that images that are hard to predict have no more weight, ``(b,)``."""
    error = predicted - clean
    size = error.detach().abs().flatten(1).mean(dim=1).clamp(min=1e-5)
    return error.square().flatten(1).mean(dim=1) / size


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(dim=1)
