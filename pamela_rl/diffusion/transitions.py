"""The distribution of one denoising step. Pure functions; sampling and training call the same one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """An isotropic normal distribution over latents.

    Attributes:
        mean: ``(b, c, h, w)``, fp32.
        std: One a sample, ``(b, 1, 1, 1)``, fp32.
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise into a sample, ``(b, c, h, w)``."""
        return self.mean + self.std * noise

    def log_prob(self, latents: Tensor) -> Tensor:
        """Return the log-density, *mean over latent dimensions*, ``(b,)``."""
        squared = ((latents - self.mean) / self.std).square()
        density = -0.5 * squared - self.std.log() - 0.5 * math.log(2 * math.pi)
        return density.flatten(1).mean(dim=1)

    def kl(self, other: Normal) -> Tensor:
        """Return the KL divergence to a distribution of the same std, *mean over latent dimensions*, ``(b,)``."""
        squared = ((self.mean - other.mean) / self.std).square()
        return 0.5 * squared.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class DDIMSchedule:
    """The noise levels of a chain of DDIM steps.

    Attributes:
        timesteps: What the denoiser is told at each step, ``(steps,)``.
        alpha_bar: Share of signal variance before each step, fp32, ``(steps,)``.
        alpha_bar_next: The same after it, ``(steps,)``.
        eta: Noise of each step; 1 is as much as DDPM's.
        v_prediction: Whether the denoiser predicts velocity instead of noise.
    """

    timesteps: Tensor
    alpha_bar: Tensor
    alpha_bar_next: Tensor
    eta: float
    v_prediction: bool

    def transition(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Normal:
        """Return the distribution of the next latents (DDIM, arXiv:2010.02502, equation 12).

        Args:
            prediction: The denoiser's output, any float type, ``(b, c, h, w)``.
            latents: Before the step, ``(b, c, h, w)``.
            step_index: Place of each sample in the chain, ``(b,)``; samples may be at different steps.
        """
        prediction, latents = prediction.float(), latents.float()
        shape = (-1, 1, 1, 1)
        now = self.alpha_bar[step_index].view(shape)
        following = self.alpha_bar_next[step_index].view(shape)
        if self.v_prediction:
            clean = now.sqrt() * latents - (1 - now).sqrt() * prediction
            noise = now.sqrt() * prediction + (1 - now).sqrt() * latents
        else:
            clean = (latents - (1 - now).sqrt() * prediction) / now.sqrt()
            noise = prediction
        variance = self.eta**2 * (1 - following) / (1 - now) * (1 - now / following)
        mean = following.sqrt() * clean + (1 - following - variance).clamp(min=0).sqrt() * noise
        return Normal(mean, variance.sqrt())

    def trainable_steps(self) -> Tensor:
        """List the steps that have a density: those whose std is above zero, ``(n,)``."""
        variance = self.eta**2 * (1 - self.alpha_bar_next) * (1 - self.alpha_bar / self.alpha_bar_next)
        return torch.nonzero(variance > 1e-8).flatten()

    def to(self, device: torch.device) -> DDIMSchedule:
        """Return a copy on ``device``."""
        return replace(
            self,
            timesteps=self.timesteps.to(device),
            alpha_bar=self.alpha_bar.to(device),
            alpha_bar_next=self.alpha_bar_next.to(device),
        )
