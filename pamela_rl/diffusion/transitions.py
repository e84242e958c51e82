"""The distribution of one denoising step, as every schedule answers it; sampling and training call the same one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """An isotropic normal distribution over latents.

    Attributes:
        mean: ``(b, …)``, fp32.
        std: One a sample, ``(b, 1, …)``, fp32; 0 where the step adds no noise and so has no density.
    """

    mean: Tensor
    std: Tensor

    def __getitem__(self, rows: Tensor) -> Normal:
        """Return some of the samples' distributions."""
        return Normal(self.mean[rows], self.std[rows])

    def detach(self) -> Normal:
        """Return it without gradients."""
        return Normal(self.mean.detach(), self.std.detach())

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise into a sample, ``(b, …)``."""
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


class Schedule(Protocol):
    """A chain of denoising steps, some of them with noise."""

    def to(self, device: torch.device) -> Self:
        """Return it on a device."""
        ...

    @property
    def timesteps(self) -> Tensor:
        """The denoiser's time input at each step, in the scheduler's units, ``(steps,)``."""
        ...

    @property
    def eta(self) -> Tensor:
        """Noise of each step, ``(steps,)``; 0 where a step is deterministic."""
        ...

    def transition(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Normal:
        """Return the distribution of the next latents.

        Args:
            prediction: The denoiser's output, any float type, ``(b, …)``.
            latents: Before the step, ``(b, …)``.
            step_index: Place of each sample in the chain, ``(b,)``; samples may be at different steps.
        """
        ...

    def trainable_steps(self) -> Tensor:
        """List the steps that have a density: those whose std is above zero, ``(n,)``."""
        ...

    @property
    def span(self) -> Tensor:
        """How much of the noise level each step takes away, ``(steps,)``: of sigma, or of the noise's variance."""
        ...

    def noised(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Put noise on clean latents as it is before a step: the forward process, ``(b, …)``.

        Args:
            clean: Finished latents, ``(b, …)``.
            noise: Standard normal, ``(b, …)``.
            step_index: Place of each sample in the chain, ``(b,)``.
        """
        ...

    def clean(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Tensor:
        """Return the clean latents that a prediction implies; arguments as ``transition``."""
        ...

    def target(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Return what the denoiser should predict from ``noised`` latents, ``(b, …)``; arguments as ``noised``."""
        ...


def noise_of_steps(num_steps: int, eta: float, window: tuple[int, int] | None) -> Tensor:
    """Give each step of a chain its noise: ``eta`` inside the window, none outside, fp32, ``(steps,)``.

    Args:
        num_steps: Of the chain.
        eta: Noise of a stochastic step.
        window: First stochastic step and the one after the last; None is the whole chain.
    """
    first, end = window or (0, num_steps)
    place = torch.arange(num_steps)
    return torch.where((place >= first) & (place < end), eta, 0.0)


def per_sample(values: Tensor, step_index: Tensor, latents: Tensor) -> Tensor:
    """Look up each sample's own value of the chain, shaped to multiply its latents, ``(b, 1, …)``."""
    return values[step_index].view(-1, *[1] * (latents.dim() - 1))
