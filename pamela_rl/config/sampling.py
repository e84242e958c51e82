"""How images are sampled while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pamela_rl.config.checks import at_least, check_negative_prompt, require

FlowNoise = Literal["flow_sde", "cps", "dance"]
FLOW_NOISES: tuple[str, ...] = get_args(FlowNoise)


@dataclass(frozen=True)
class SamplingConfig:
    """How images are sampled while training.

    Attributes:
        num_inference_steps: Denoising steps an image.
        eta: Noise of each stochastic step: DDIM's eta (1 is DDPO's), or for flow models Flow-GRPO's a (.7), CPS's a (.8) or
            DanceGRPO's eta (.3). None is the one named for algorithms that need noise, and 0, no noise, for the others.
        flow_noise: How flow models add noise: "flow_sde", "cps" or "dance"; diffusion models ignore it.
        window_start: First stochastic step, counted from 0.
        window_size: Stochastic steps; the others are deterministic. None is all from the first on.
        guidance_scale: Of classifier-free guidance, or the input of a guidance-distilled model; 1 is none.
        negative_prompt: Of the unconditional branch; refused without guidance, and by models with distilled guidance.
        train_steps: Denoising steps of each image that are trained, chosen at random for every image. Algorithms that
            learn from final images take as many noise levels.
    """

    num_inference_steps: int = 10
    eta: float | None = None
    flow_noise: FlowNoise = "flow_sde"
    window_start: int = 0
    window_size: int | None = None
    guidance_scale: float = 1.0
    negative_prompt: str = ""
    train_steps: int = 4

    def __post_init__(self) -> None:
        at_least("sampling.num_inference_steps", self.num_inference_steps, 1, "e.g. 10 for the world, 50 for SD 1.5")
        require(self.eta is None or 0 <= self.eta <= 1, f"sampling.eta is {self.eta}; use 0 to 1, e.g. 1.0.")
        at_least("sampling.guidance_scale", self.guidance_scale, 1.0, "1 means no guidance")
        check_negative_prompt("sampling.", self.negative_prompt, self.guidance_scale)
        kinds = ", ".join(FLOW_NOISES)
        require(self.flow_noise in FLOW_NOISES, f"sampling.flow_noise is {self.flow_noise!r}; use one of {kinds}.")
        last = self.num_inference_steps - 1
        told = f"sampling.window_start is {self.window_start}; with {last + 1} denoising steps use 0 to {last}."
        require(0 <= self.window_start <= last, told)
        room = self.num_inference_steps - self.window_start
        require(
            self.window_size is None or 1 <= self.window_size <= room,
            f"sampling.window_size is {self.window_size} but {room} steps are left from step {self.window_start} on; "
            f"use 1 to {room}.",
        )
        stochastic = self.window_size or room
        told = f"sampling.train_steps is {self.train_steps} but {stochastic} denoising steps have noise"
        require(1 <= self.train_steps <= stochastic, f"{told}; use 1 to {stochastic}.")

    @property
    def window(self) -> tuple[int, int]:
        """First stochastic step and the one after the last."""
        size = self.window_size or self.num_inference_steps - self.window_start
        return self.window_start, self.window_start + size
