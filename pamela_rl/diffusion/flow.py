"""Flow-matching steps with noise: the transitions of SD3, FLUX and every later family."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import Normal, per_sample

_LEAST_NOISE = 0.02  # of the noisiest step's


@dataclass(frozen=True)
class FlowSchedule:
    """The noise levels of a chain of steps along a learned velocity; pure. A step of ``eta`` 0 is Euler's.

    Latents at noise level s are ``x = (1 - s) * x0 + s * x1`` with noise x1, and the denoiser predicts ``v = x1 - x0``.

    Attributes:
        timesteps: The denoiser's time input at each step, in the scheduler's units, ``(steps,)``.
        sigmas: Noise level before each step and after the last, falling, fp32, ``(steps + 1,)``.
        eta: Noise of each step, ``(steps,)``; what it means depends on ``noise``.
        noise: "flow_sde" (Flow-GRPO, arXiv:2505.05470), "cps" (coefficients-preserving sampling, arXiv:2509.05952) or
            "dance" (DanceGRPO, arXiv:2505.07818).
    """

    timesteps: Tensor
    sigmas: Tensor
    eta: Tensor
    noise: FlowNoise

    def to(self, device: torch.device) -> Self:
        """Return it on a device."""
        timesteps, sigmas, eta = (to_device(level, device) for level in (self.timesteps, self.sigmas, self.eta))
        return replace(self, timesteps=timesteps, sigmas=sigmas, eta=eta)

    def transition(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Normal:
        """Return the distribution of the next latents; arguments as ``Schedule.transition``."""
        v, x = prediction.float(), latents.float()
        s, s_next = per_sample(self.sigmas, step_index, x), per_sample(self.sigmas, step_index + 1, x)
        std = per_sample(self._std(), step_index, x)
        mean = {"flow_sde": flow_sde_mean, "cps": cps_mean, "dance": dance_mean}[self.noise]
        return Normal(mean(x, v, s, s_next, std), std)

    def noised(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Put noise on clean latents as it is before a step; arguments as ``Schedule.noised``."""
        level = per_sample(self.sigmas, step_index, clean)
        return (1 - level) * clean + level * noise

    def clean(self, prediction: Tensor, latents: Tensor, step_index: Tensor) -> Tensor:
        """Return the clean latents that a prediction implies; arguments as ``Schedule.transition``."""
        return latents.float() - per_sample(self.sigmas, step_index, latents) * prediction.float()

    def target(self, clean: Tensor, noise: Tensor, step_index: Tensor) -> Tensor:
        """Return the velocity from clean latents to noise, the same at all levels; arguments as ``Schedule.target``."""
        return noise - clean

    @property
    def span(self) -> Tensor:
        """How far each step comes down, in sigma, ``(steps,)``."""
        return self.sigmas[:-1] - self.sigmas[1:]

    def trainable_steps(self) -> Tensor:
        """List the steps whose noise is not negligible, ``(n,)``.

        The last step may have a hundredth of the others' noise, where log-probabilities would drown theirs (Flow-GRPO's own
        code never trains it).
        """
        std = self._std()
        return torch.nonzero(std > (_LEAST_NOISE * std.max()).clamp(min=1e-6)).flatten()

    def _std(self) -> Tensor:
        """Standard deviation that each step adds, ``(steps,)``."""
        s, s_next = self.sigmas[:-1], self.sigmas[1:]
        if self.noise == "cps":
            return s_next * torch.sin(self.eta * math.pi / 2)
        if self.noise == "dance":
            return self.eta * (s - s_next).sqrt()
        # the coefficient has a pole at level 1, so its denominator never sees a level above the chain's second: at level 1 as in
        # Flow-GRPO's own code, and just below it, where published schedulers start too
        bounded = torch.minimum(s, self.sigmas[1])
        return self.eta * (s / (1 - bounded)).sqrt() * (s - s_next).sqrt()


def flow_sde_mean(x: Tensor, v: Tensor, s: Tensor, s_next: Tensor, std: Tensor) -> Tensor:
    """Mean of a Flow-SDE step: x + [v + σ²/2s (x + (1−s)v)] Δt with σ² = std²/−Δt (Flow-GRPO, equation 9), ``(b, …)``."""
    dt = s_next - s  # below zero: noise levels fall
    sigma2 = std.square() / -dt
    return x * (1 + sigma2 * dt / (2 * s)) + v * (1 + sigma2 * (1 - s) / (2 * s)) * dt


def cps_mean(x: Tensor, v: Tensor, s: Tensor, s_next: Tensor, std: Tensor) -> Tensor:
    """Mean of a CPS step: (1−s′) x̂0 + √(s′² − std²) x̂1 (arXiv:2509.05952); Euler's where it adds no noise, ``(b, …)``."""
    x0, x1 = x - s * v, x + (1 - s) * v
    noisy = x0 * (1 - s_next) + x1 * (s_next.square() - std.square()).clamp(min=0).sqrt()
    return torch.where(std > 0, noisy, x + v * (s_next - s))


def dance_mean(x: Tensor, v: Tensor, s: Tensor, s_next: Tensor, std: Tensor) -> Tensor:
    """Mean of a DanceGRPO step: x + v Δt + ½ std² ∇log p with the score −(x − (1−s) x̂0)/s² (arXiv:2505.07818), ``(b, …)``."""
    score = -(x - (1 - s) * (x - s * v)) / s.square()
    return x + v * (s_next - s) + 0.5 * std.square() * score
