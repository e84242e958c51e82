"""The noise levels of diffusers' own schedulers, for steps that have a density; what cannot be trained is refused."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from pamela_rl.errors import ConfigError

DDIM_KIND = ("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler")
"""A step ends ``num_train_timesteps / num_inference_steps`` below its start; PNDM becomes first order."""

EULER_KIND = (
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip
"""A step ends where the next begins, the start is scaled by the highest level; the last four become first order."""

SOLVER_KIND = (
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
    "SASolverScheduler",
)  # fmt: skip
"""A step ends where the next begins, the start is standard normal; all become first order."""

FLOW_KIND = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
"""Levels of flow matching; Heun becomes first order. So do the solvers above, where ``use_flow_sigmas`` is set."""

PREDICTIONS = ("epsilon", "v_prediction")
_LEAST_SIGNAL = 1e-6  # share of signal variance that a prediction of the noise can be divided by


class DiffusionLevels:
    """The noise levels of a diffusion scheduler, as shares of signal variance, for any number of steps.

    Args:
        scheduler: Of the pipeline; it is not changed.

    Raises:
        ConfigError: It is of another kind, or predicts something else; names what is supported.
    """

    def __init__(self, scheduler: Any):
        name, config = type(scheduler).__name__, scheduler.config
        if name not in DDIM_KIND + EULER_KIND + SOLVER_KIND:
            raise ConfigError(
                f"the pipeline's scheduler is {name}, whose steps cannot be trained here; give the pipeline another that "
                f"suits the model, one of {', '.join(DDIM_KIND + EULER_KIND)}, or for their levels alone "
                f"{', '.join(SOLVER_KIND)}."
            )
        if config.prediction_type not in PREDICTIONS:
            raise ConfigError(
                f"the scheduler's prediction_type is {config.prediction_type!r}; models of {' and '.join(PREDICTIONS)} can "
                "be trained."
            )
        if config.get("thresholding"):
            raise ConfigError("the scheduler thresholds its samples, which has no density; set thresholding to False.")
        self.v_prediction = config.prediction_type == "v_prediction"
        self._kind: Any = type(scheduler)
        if name in DDIM_KIND:
            self._kind = DDIMScheduler
        elif name in EULER_KIND:
            self._kind = EulerDiscreteScheduler  # Heun's and KDPM2's own list each level twice
        self._config, self._of_ddim, self._scales_start = config, name in DDIM_KIND, name in EULER_KIND

    def chain(self, num_inference_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return timesteps as the scheduler gives them, and signal variance before and after each step, ``(steps,)``.

        Raises:
            ConfigError: A model that predicts noise would start from a level without any signal.
        """
        timesteps, before, after = (self._ddim if self._of_ddim else self._sigmas)(num_inference_steps)
        if not self.v_prediction and bool((before < _LEAST_SIGNAL).any()):
            raise ConfigError(
                "the scheduler's first level has no signal (rescale_betas_zero_snr), from which a model that predicts noise "
                "cannot start; set rescale_betas_zero_snr to False, or prediction_type to what the model predicts."
            )
        return timesteps, before, after

    @property
    def start_scale(self) -> float:
        """Standard deviation of initial latents: 1, or σ/√(1+σ²) where the scheduler starts from its highest level σ."""
        if not self._scales_start:
            return 1.0
        scheduler = self._made(10)  # the highest level is the same for any number of steps
        return float(scheduler.init_noise_sigma / (1 + scheduler.sigmas[0] ** 2) ** 0.5)

    def _made(self, num_inference_steps: int) -> Any:
        scheduler = self._kind.from_config(self._config)
        scheduler.set_timesteps(num_inference_steps)
        return scheduler

    def _ddim(self, num_inference_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        scheduler = self._made(num_inference_steps)
        timesteps, alpha_bar = scheduler.timesteps.cpu(), scheduler.alphas_cumprod.float()
        following = timesteps - scheduler.config.num_train_timesteps // num_inference_steps
        last = torch.as_tensor(scheduler.final_alpha_cumprod, dtype=torch.float32)
        return timesteps, alpha_bar[timesteps], torch.where(following >= 0, alpha_bar[following.clamp(min=0)], last)

    def _sigmas(self, num_inference_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        scheduler = self._made(num_inference_steps)
        signal = 1 / (1 + scheduler.sigmas.cpu().double().square())
        return scheduler.timesteps.cpu(), signal[:-1].float(), signal[1:].float()


def euler_scheduler(scheduler: Any) -> FlowMatchEulerDiscreteScheduler:
    """Return a scheduler of Euler's own steps at another flow scheduler's noise levels.

    Raises:
        ConfigError: The scheduler is not of flow matching, or adds noise of its own.
    """
    config, name = scheduler.config, type(scheduler).__name__
    if name in FLOW_KIND:
        if config.get("stochastic_sampling"):
            raise ConfigError(
                "the scheduler re-noises its samples at every step (stochastic_sampling), which cannot be trained here; "
                "set stochastic_sampling to False."
            )
        return FlowMatchEulerDiscreteScheduler.from_config(config)
    if config.get("use_flow_sigmas"):  # solvers of second order, e.g. Sana's own; their levels are shifted alike
        return FlowMatchEulerDiscreteScheduler(shift=config.get("flow_shift") or 1.0)
    raise ConfigError(
        f"the pipeline's scheduler is {name}, whose steps cannot be trained here; give the pipeline a "
        f"{' or '.join(FLOW_KIND)}, or a solver with use_flow_sigmas."
    )
