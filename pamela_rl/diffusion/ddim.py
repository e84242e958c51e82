"""DDIM steps with noise: the transitions of the diffusion families, SD and SDXL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import Normal, per_sample


@dataclass(frozen=True)
class DDIMSchedule:
    """The noise levels of a chain of DDIM steps (arXiv:2010.02502); pure.

    Attributes:
        timesteps: The denoiser's time input at each step, ``(steps,)``.
        alpha_bar: Share of signal variance before each step, fp32, ``(steps,)``.
        alpha_bar_next: The same after it, ``(steps,)``.
        eta: Noise of each step, ``(steps,)``; 1 is as much as DDPM's, 0 is none.
        v_prediction: Whether the denoiser predicts velocity instead of noise.
    """

    timesteps: Tensor
    alpha_bar: Tensor
    alpha_bar_next: Tensor
    eta: Tensor
    v_prediction: bool

    def to(self, device: torch.device) -> Self:
        """Return it on a device."""
        levels = (self.timesteps, self.alpha_bar, self.alpha_bar_next, self.eta)
        timesteps, before, after, eta = (to_device(level, device) for level in levels)
        return replace(self, timesteps=timesteps, alpha_bar=before, alpha_bar_next=after, eta=eta)

    def transition(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Normal:
        """Return the distribution of the next latents (equation 12); arguments as ``Schedule.transition``."""
        prediction, latents = prediction.float(), latents.float()
        now = per_sample(self.alpha_bar, step_index, latents)
        following = per_sample(self.alpha_bar_next, step_index, latents)
        clean = self.clean(prediction, latents, step_index)
        noise = now.sqrt() * prediction + (1 - now).sqrt() * latents if self.v_prediction else prediction
        variance = per_sample(self._variance(), step_index, latents)
        mean = following.sqrt() * clean + (1 - following - variance).clamp(min=0).sqrt() * noise
        return Normal(mean, variance.sqrt())

    def noised(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Put noise on clean latents as it is before a step; arguments as ``Schedule.noised``."""
        now = per_sample(self.alpha_bar, step_index, clean)
        return now.sqrt() * clean + (1 - now).sqrt() * noise

    def clean(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Tensor:
        """Return the clean latents that a prediction implies; arguments as ``Schedule.transition``."""
        prediction, latents = prediction.float(), latents.float()
        now = per_sample(self.alpha_bar, step_index, latents)
        if self.v_prediction:
            return now.sqrt() * latents - (1 - now).sqrt() * prediction
        return (latents - (1 - now).sqrt() * prediction) / now.sqrt()

    def target(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Return the noise, or the velocity (arXiv:2202.00512); arguments as ``Schedule.target``."""
        now = per_sample(self.alpha_bar, step_index, clean)
        return now.sqrt() * noise - (1 - now).sqrt() * clean if self.v_prediction else noise

    @property
    def span(self) -> Tensor:
        """Share of the noise's variance that each step takes away, ``(steps,)``."""
        return self.alpha_bar_next - self.alpha_bar

    def trainable_steps(self) -> Tensor:
        """List the steps that have a density, ``(n,)``."""
        return torch.nonzero(self._variance() > 1e-8).flatten()

    def _variance(self) -> Tensor:
        now, following = self.alpha_bar, self.alpha_bar_next
        return self.eta.square() * (1 - following) / (1 - now) * (1 - now / following)
