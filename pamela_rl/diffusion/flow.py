"""Flow-matching steps with noise: the transitions of SD3, FLUX and every later family."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.transitions import Normal, per_sample

_LEAST_NOISE = 0.02  # of the noisiest step's


@dataclass(frozen=True)
class FlowSchedule:
    """The noise levels of a chain of steps along a learned velocity; pure. A step of ``eta`` 0 is Euler's.

    Latents at noise level s are ``(1 - s) * clean + s * noise``, and the denoiser predicts ``noise - clean``.

    Attributes:
        timesteps: The denoiser's time input at each step, in the scheduler's units, ``(steps,)``.
        sigmas: Noise level before each step and after the last, falling, fp32, ``(steps + 1,)``.
        eta: Noise of each step, ``(steps,)``; what it means depends on ``noise``.
        noise: "flow_sde" (Flow-GRPO, arXiv:2505.05470, equation 9), "cps" (coefficients-preserving sampling,
            arXiv:2509.05952) or "dance" (DanceGRPO, arXiv:2505.07818).
    """

    timesteps: Tensor
    sigmas: Tensor
    eta: Tensor
    noise: FlowNoise

    def transition(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Normal:
        """Return the distribution of the next latents; arguments as ``Schedule.transition``."""
        velocity, latents = prediction.float(), latents.float()
        level = per_sample(self.sigmas, step_index, latents)
        following = per_sample(self.sigmas, step_index + 1, latents)
        std = per_sample(self._std(), step_index, latents)
        change = following - level  # below zero: noise levels fall
        if self.noise == "cps":
            kept = (following.square() - std.square()).clamp(min=0).sqrt()
            clean, noise = self.clean(velocity, latents, step_index), latents + (1 - level) * velocity
            noisy = clean * (1 - following) + noise * kept
            return Normal(torch.where(std > 0, noisy, latents + velocity * change), std)
        if self.noise == "dance":
            score = -(latents - (1 - level) * (latents - level * velocity)) / level.square()
            return Normal(latents + velocity * change + 0.5 * std.square() * score, std)
        drift = std.square() / -change  # the squared diffusion coefficient
        mean = (
            latents * (1 + drift * change / (2 * level)) + velocity * (1 + drift * (1 - level) / (2 * level)) * change
        )
        return Normal(mean, std)

    def noised(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Put noise on clean latents as it is before a step; arguments as ``Schedule.noised``."""
        level = per_sample(self.sigmas, step_index, clean)
        return (1 - level) * clean + level * noise

    def clean(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Tensor:
        """Return the clean latents that a prediction implies; arguments as ``Schedule.transition``."""
        return latents.float() - per_sample(self.sigmas, step_index, latents) * prediction.float()

    @property
    def span(self) -> Tensor:
        """How far each step comes down, in sigma, ``(steps,)``."""
        return self.sigmas[:-1] - self.sigmas[1:]

    def trainable_steps(self) -> Tensor:
        """List the steps that have a density worth the name, ``(n,)``.

        The last step may have a hundredth of the others' noise, where log-probabilities would drown theirs (Flow-GRPO's own
        code never trains it).
        """
        std = self._std()
        return torch.nonzero(std > (_LEAST_NOISE * std.max()).clamp(min=1e-6)).flatten()

    def _std(self) -> Tensor:
        """Standard deviation that each step adds, ``(steps,)``."""
        level, following = self.sigmas[:-1], self.sigmas[1:]
        span = (level - following).sqrt()
        if self.noise == "cps":
            return following * torch.sin(self.eta * math.pi / 2)
        if self.noise == "dance":
            return self.eta * span
        # at level 1 the coefficient is infinite: the next level stands in for it, as in Flow-GRPO's own code
        bounded = torch.where(level >= 1, following, level)
        return self.eta * (level / (1 - bounded)).sqrt() * span
