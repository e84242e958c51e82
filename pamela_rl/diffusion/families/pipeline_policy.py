"""What all families share: prompts encoded once, guidance in one batched call, pictures from the pipeline's own VAE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.encoded_prompts import EncodedPrompts
from pamela_rl.diffusion.sizes import check_multiple
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import Conditioning


class PipelinePolicy(ABC):
    """A diffusers pipeline as a ``Policy``; a family says what differs.

    Attributes:
        offload: Keep text encoders and VAE on the CPU while they have nothing to do.
        detach_unconditional: Ask for the unconditional branch in a call of its own, without gradient; sampling and
            training alike, so that both see the same numbers.
        sharded: The denoiser is cut over processes, which must then call it equally often.
        compiled: Its blocks are compiled; sampling then runs the graph that training differentiates.

    Args:
        pipeline: The pipeline; all its weights are frozen.
        height: Pixels; None takes the model's own size.
        width: Pixels; None takes the model's own size.

    Raises:
        ConfigError: The size does not divide into the model's patches, or the scheduler is of the wrong kind.
    """

    component = "transformer"
    own_size = 1024  # pixels, where the denoiser's config does not tell

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        self.pipeline = pipeline
        self.denoiser: Any = getattr(pipeline, self.component)
        self.dtype: torch.dtype = next(self.denoiser.parameters()).dtype  # an adapter on it may be of another
        self.offload = self.detach_unconditional = self.sharded = self.compiled = False
        for module in (self.denoiser, pipeline.vae, *self._text_encoders()):
            module.requires_grad_(False).eval()
        self.height, self.width = height or self._own_side(), width or self._own_side()
        self._prompts = EncodedPrompts(self._encode_all)
        for name, side in (("height", self.height), ("width", self.width)):
            check_multiple(name, side, self._multiple(), type(pipeline).__name__)

    @classmethod
    @abstractmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Say in the pipeline's own arguments how to guide: scale 1 is none, ``negative`` one prompt a picture or ""."""

    @abstractmethod
    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        """Encode one prompt with the pipeline's own ``encode_prompt``; each tensor has one row."""

    @abstractmethod
    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> Schedule:
        """Return the chain of noise levels, on the policy's device; arguments as ``Policy.schedule``."""

    @abstractmethod
    def _start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw starting points, fp32, as the denoiser takes them."""

    @abstractmethod
    def _denoise(self, latents: Tensor, timesteps: Tensor, told: Mapping[str, Tensor], guidance_scale: float) -> Tensor:
        """Ask the denoiser once; everything is in its dtype already, except the timesteps."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Decode final latents to pictures in [-1, 1], ``(b, 3, height, width)``."""

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Names, or ends of names, of the denoiser's layers that get a LoRA: those of diffusers' own examples."""
        return ("to_q", "to_k", "to_v", "to_out.0")

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return next(self.denoiser.parameters()).device

    @property
    def embeds_guidance(self) -> bool:
        """Whether guidance is distilled into the denoiser, which then takes its scale as a number."""
        return bool(getattr(self.denoiser.config, "guidance_embeds", False))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each, on the policy's device.

        Each prompt is encoded by itself and once, so that it never depends on the prompts beside it.
        """
        return self._prompts.rows(prompts, False, self.device)

    @torch.no_grad()
    def encode_negative(self, prompt: str, guidance_scale: float) -> Conditioning | None:
        """Encode what guidance steers away from, one row; None where the denoiser is asked only once."""
        if guidance_scale <= 1 or self.embeds_guidance:
            return None
        return self._prompts.rows([prompt], True, self.device)

    def remember(self, prompt: str, told: Conditioning, negative: bool = False) -> None:
        """Take a prompt as encoded, one row, e.g. from a file; its text encoder is then never asked."""
        self._prompts.remember(prompt, told, negative)

    def initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one starting point a generator, fp32, ``(b, …)``."""
        return self._start(generators).float().to(self.device)

    def predict(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        negative: Conditioning | None,
        guidance_scale: float,
    ) -> Tensor:
        """Ask the denoiser, ``(b, …)``; with guidance both branches go through it in one batch, unless detached."""
        if negative is None:
            return self._ask(latents, timesteps, conditioning, guidance_scale)
        negative = negative[torch.zeros(len(latents), dtype=torch.long, device=latents.device)]
        if self.detach_unconditional:
            with torch.no_grad():
                without = self._ask(latents, timesteps, negative, guidance_scale)
            return self._guide(without, self._ask(latents, timesteps, conditioning, guidance_scale), guidance_scale)
        both = Conditioning.cat([negative, conditioning])
        doubled = torch.cat([latents, latents]), torch.cat([timesteps, timesteps])
        without, asked = self._ask(*doubled, both, guidance_scale).chunk(2)
        return self._guide(without, asked, guidance_scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Turn final latents into pictures in [0, 1], ``(b, 3, height, width)``; gradients reach the latents."""
        vae = self.pipeline.vae
        with self._present(vae, keep=torch.is_grad_enabled()):  # a backward pass to come still needs it
            pictures = self._decode(latents.to(vae.dtype)).float()
        return (pictures * 0.5 + 0.5).clamp(0, 1)

    def rest(self) -> None:
        """Send parts with nothing to do to the CPU where they are kept there, after a backward pass that needed them."""
        if self.offload:
            self.pipeline.vae.to("cpu")

    def assembled(self) -> AbstractContextManager[None]:
        """Bring every part to the denoiser's device inside the block, so that the pipeline's own call works."""
        parts = (part for part in self.pipeline.components.values() if isinstance(part, nn.Module))
        return self._present(*(part for part in parts if part is not self.denoiser))

    def _ask(self, latents: Tensor, timesteps: Tensor, told: Conditioning, guidance_scale: float) -> Tensor:
        dtype = self.dtype
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in told.tensors.items()}
        learning = torch.is_grad_enabled()
        with torch.set_grad_enabled(learning or self.compiled):  # compilers round a graph without gradients otherwise
            output = self._denoise(latents.to(dtype), timesteps, tensors, guidance_scale).float()
        return output if learning else output.detach()

    def _guide(self, without: Tensor, asked: Tensor, guidance_scale: float) -> Tensor:
        """Classifier-free guidance (arXiv:2207.12598)."""
        return without + guidance_scale * (asked - without)

    def _encode_negative(self, prompt: str) -> Mapping[str, Tensor]:
        return self._encode(prompt)

    def _encode_all(self, prompts: Sequence[str], negative: bool) -> list[Mapping[str, Tensor]]:
        with self._present(*self._text_encoders()):
            return [self._encode_negative(prompt) if negative else self._encode(prompt) for prompt in prompts]

    def _text_encoders(self) -> list[nn.Module]:
        found = (getattr(self.pipeline, f"text_encoder{place}", None) for place in ("", "_2", "_3"))
        return [encoder for encoder in found if encoder is not None]

    @contextmanager
    def _present(self, *parts: nn.Module, keep: bool = False) -> Iterator[None]:
        """Bring parts that may be idle to the denoiser's device inside the block, or from then on."""
        for part in parts:
            part.to(self.device)
        try:
            yield
        finally:
            if self.offload and not keep:
                for part in parts:
                    part.to("cpu")

    def _own_side(self) -> int:
        size = getattr(self.pipeline, "default_sample_size", None) or getattr(self.denoiser.config, "sample_size", None)
        return int(size * self._compression()) if isinstance(size, int) else self.own_size

    def _compression(self) -> int:
        """Pixels of a latent's side."""
        return int(self.pipeline.vae_scale_factor)

    def _multiple(self) -> int:
        """What height and width must be multiples of, in pixels."""
        return self._compression()
