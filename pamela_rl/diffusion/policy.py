"""A diffusers pipeline as the loop sees it: prompts encoded once, guidance in one batched call, images from its own VAE."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.adapted import Adapted
from pamela_rl.diffusion.dropout import KEPT
from pamela_rl.diffusion.encoded_prompts import EncodedPrompts
from pamela_rl.diffusion.guidance import Guided
from pamela_rl.diffusion.sizes import check_multiple
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import Conditioning


class Policy(Adapted, Guided):
    """A text-to-image pipeline whose denoiser's LoRA is trained; a family of models implements the abstract methods.

    Attributes:
        pipeline_class: Name of the diffusers class that the family is for.
        component: Which part of the pipeline is the denoiser, "unet" or "transformer".
        default_size: Side of an image in pixels, where the denoiser's config has none.
        pipeline: The pipeline.
        denoiser: Its denoiser.
        dtype: Of the base model's weights.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        offload: Keep text encoders and VAE on the CPU while they are idle.
        decoded_at_once: Images that the VAE decodes in a call; None sets no bound.
        detach_unconditional: Predict the unconditional branch in a call of its own, without gradient; in sampling and
            training alike, so that both compute the same numbers.
        sharded: The denoiser is cut over processes, which must then call it equally often.
        compiled: Its denoiser is compiled, whose graph without gradients rounds differently from the one with them.

    Args:
        pipeline: The pipeline; all its weights are frozen.
        height: Pixels; None takes the model's own size.
        width: Pixels; None takes the model's own size.

    Raises:
        ConfigError: The size does not divide into the model's patches, or the scheduler is of the wrong kind.
    """

    pipeline_class: ClassVar[str]
    default_size: ClassVar[int] = 1024

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        self.pipeline = pipeline
        self.denoiser: Any = getattr(pipeline, self.component)
        # of the first that is a number, since quantized ones are none; an adapter on it may have another
        self.dtype: torch.dtype = next(w.dtype for w in self.denoiser.parameters() if w.is_floating_point())
        self.offload = self.detach_unconditional = self.sharded = self.compiled = False
        self.decoded_at_once: int | None = None
        self._lent: set[nn.Module] = set()  # idle parts that are on the denoiser's device for now
        for module in (self.denoiser, pipeline.vae, *self._text_encoders()):
            module.requires_grad_(False).eval()
        default_height, default_width = self._default_sides()
        self.height, self.width = height or default_height, width or default_width
        self._prompts = EncodedPrompts(self._encode_all)
        super().__init__()
        for name, side in (("height", self.height), ("width", self.width)):
            check_multiple(name, side, self._multiple(), type(pipeline).__name__)

    @abstractmethod
    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> Schedule:
        """Return the chain of noise levels, on the CPU.

        Args:
            num_inference_steps: Of the chain.
            eta: Noise of the stochastic steps; None is the papers' value for this kind.
            noise: Which kind; diffusion families know one only and ignore it.
            window: First stochastic step and the one after the last; None is the whole chain.
        """

    @abstractmethod
    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        """Encode one prompt with the pipeline's own ``encode_prompt``; each tensor has one row."""

    @abstractmethod
    def _initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw initial latents, fp32, as the denoiser takes them."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Decode final latents to images in [-1, 1], ``(b, 3, height, width)``."""

    @abstractmethod
    def _encode_images(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1] to final latents, the inverse of ``_decode``; the mean where the VAE gives a distribution."""

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Names, or ends of names, of the denoiser's layers that get a LoRA: those of diffusers' own examples."""
        return ("to_q", "to_k", "to_v", "to_out.0")

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return next(self.denoiser.parameters()).device

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each, on the policy's device.

        Each prompt is encoded by itself and once, so that it never depends on the prompts beside it.
        """
        return self._prompts.rows(prompts, False, self.device)

    @torch.no_grad()
    def encode_negative(self, prompt: str, guidance_scale: float) -> Conditioning | None:
        """Encode the negative prompt, one row; None where the denoiser is called without an unconditional branch.

        Raises:
            ConfigError: There is one, and it would do nothing.
        """
        self.check_negative(self.pipeline, prompt, guidance_scale)
        if not self.has_unconditional_branch(self.pipeline, guidance_scale):
            return None
        return self._prompts.rows([prompt], True, self.device)

    @torch.no_grad()
    def encode_ahead(self, prompts: Sequence[str], negative: str, guidance_scale: float, folder: Path) -> None:
        """Encode all prompts of a run now, those that ``folder`` does not hold yet; text encoders can then rest.

        Args:
            prompts: Any number.
            negative: The negative prompt.
            guidance_scale: Of the run.
            folder: Keeps them, for this base model alone.
        """
        self._prompts.folder = folder
        self._prompts.complete(prompts, False)
        self.encode_negative(negative, guidance_scale)

    def cache_prompt(self, prompt: str, conditioning: Conditioning, negative: bool = False) -> None:
        """Store a prompt's encoding, one row, e.g. from a file; the text encoder is then not called for it."""
        self._prompts.store(prompt, conditioning, negative)

    def initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw initial latents, one sample a generator, fp32, ``(b, …)``."""
        return self._initial_latents(generators).float().to(self.device)

    def predict(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        negative: Conditioning | None,
        guidance_scale: float,
        as_trained: bool = False,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Predict with classifier-free guidance; both branches go through the denoiser in one batch, unless detached.

        Args:
            latents: ``(b, …)``.
            timesteps: Of each sample, as the schedule gives them, ``(b,)``.
            conditioning: One row a sample.
            negative: The negative prompt, one row for all; None predicts without guidance.
            guidance_scale: 1 is none.
            as_trained: Without gradients, too, compute the very numbers that a call with gradients would.
            kept: What the adapter's inputs of each sample are multiplied by where there are gradients, ``(b, …)``, as
                ``dropout.kept_inputs`` gives it; None leaves them.

        Returns:
            The guided prediction, fp32, ``(b, …)``.
        """
        count, with_gradient = len(latents), torch.is_grad_enabled()
        calls = [(conditioning, with_gradient)]
        if negative is not None:
            negative = negative[torch.zeros(count, dtype=torch.long, device=latents.device)]
            together = [(Conditioning.cat([negative, conditioning]), with_gradient)]
            calls = [(negative, False), *calls] if self.detach_unconditional else together
        outputs = []
        for rows, trained in calls:
            samples = torch.cat([latents] * (len(rows) // count)).to(self.dtype)
            times = torch.cat([timesteps] * (len(rows) // count))
            if kept is not None and trained:
                rows = Conditioning({**rows.tensors, KEPT: torch.cat([kept] * (len(rows) // count))})
            with torch.set_grad_enabled(trained or (as_trained and self.compiled)):
                output = self._call(samples, times, rows.to(self.dtype), guidance_scale).float()
            outputs.append(output if trained else output.detach())
        if negative is None:
            return outputs[0]
        unconditional, conditional = torch.cat(outputs).chunk(2)
        return self.guide(unconditional, conditional, guidance_scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode final latents to images in [0, 1], ``(b, 3, height, width)``; gradients reach the latents."""
        vae = self.pipeline.vae
        with self._on_device(vae, stay=torch.is_grad_enabled()):  # a backward pass to come still needs it
            images = self._decode(latents.to(vae.dtype)).float()
        return (images * 0.5 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def decode_all(self, latents: Tensor, batch_size: int) -> Tensor:
        """Decode any number of final latents, as ``decode``, in calls of at most ``batch_size`` and of what memory holds."""
        size = min(batch_size, self.decoded_at_once or batch_size)
        with self._on_device(self.pipeline.vae):
            return torch.cat([self.decode(part) for part in latents.split(size)])

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images, RGB in [0, 1], ``(b, 3, height, width)``, to latents as the denoiser takes them, fp32, ``(b, …)``."""
        vae = self.pipeline.vae
        with self._on_device(vae):
            return self._encode_images((images.to(self.device) * 2 - 1).to(vae.dtype)).float()

    def offload_idle(self) -> None:
        """Send the VAE back to the CPU where it is kept there, after a backward pass that needed it."""
        if self.pipeline.vae in self._lent:
            self._lent.remove(self.pipeline.vae)
            self.pipeline.vae.to("cpu")

    def all_on_device(self) -> AbstractContextManager[None]:
        """Bring every part to the denoiser's device inside the block, so that the pipeline's own call works."""
        parts = (part for part in self.pipeline.components.values() if isinstance(part, nn.Module))
        return self._on_device(*(part for part in parts if part is not self.denoiser))

    def _encode_negative(self, prompt: str) -> Mapping[str, Tensor]:
        return self._encode(prompt)

    def _encode_all(self, prompts: Sequence[str], negative: bool) -> list[Mapping[str, Tensor]]:
        with self._on_device(*self._text_encoders()):
            return [self._encode_negative(prompt) if negative else self._encode(prompt) for prompt in prompts]

    def _text_encoders(self) -> list[nn.Module]:
        found = (getattr(self.pipeline, f"text_encoder{place}", None) for place in ("", "_2", "_3"))
        return [encoder for encoder in found if encoder is not None]

    @contextmanager
    def _on_device(self, *parts: nn.Module, stay: bool = False) -> Iterator[None]:
        """Bring parts that are offloaded to the denoiser's device inside the block, or from then on."""
        moved = [part for part in parts if part not in self._lent] if self.offload else []
        self._lent |= set(moved)
        for part in moved:
            part.to(self.device)
        try:
            yield
        finally:
            self._lent -= set() if stay else set(moved)
            for part in [] if stay else moved:
                part.to("cpu")

    def _default_sides(self) -> tuple[int, int]:
        """The model's own height and width, in pixels; a config gives latents' side as one number or as two."""
        size = getattr(self.pipeline, "default_sample_size", None) or getattr(self.denoiser.config, "sample_size", None)
        if size is None:
            return self.default_size, self.default_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self._compression(), width * self._compression()

    def _compression(self) -> int:
        """Pixels of a latent's side."""
        return int(self.pipeline.vae_scale_factor)

    def _multiple(self) -> int:
        """What height and width must be multiples of, in pixels."""
        return self._compression()


@contextmanager
def adapter_off(policy: Policy) -> Iterator[None]:
    """Leave out the adapter inside the block, and those loaded from files: the base model, bit for bit."""
    loaded = bool(getattr(policy.denoiser, "peft_config", None))
    if loaded:
        policy.denoiser.disable_adapters()
    try:
        with policy.wearing(None):
            yield
    finally:
        if loaded:
            policy.denoiser.enable_adapters()
