"""Images from any diffusers pipeline, with or without an adapter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pamela_rl.config.checks import check_negative_prompt, require
from pamela_rl.diffusion.content_filters import unfiltered
from pamela_rl.diffusion.families import FAMILIES


@dataclass(frozen=True)
class PipelineGenerator:
    """Draws through the pipeline's own ``__call__``, as a user of the adapter would, but without its content filters.

    A safety checker, which blackens what it flags, and watermarks are off: training does without them, too.

    Attributes:
        pipeline: Any text-to-image pipeline.
        adapter: Name of the adapter to switch on; None draws with the base model.
        num_inference_steps: Denoising steps, without added noise; None takes the pipeline's own number.
        guidance_scale: 1 draws without guidance, for every family; None takes the pipeline's own.
        batch_size: Images per call.
        height: Pixels; None takes the model's own size.
        width: Pixels; None takes the model's own size.
        negative_prompt: For classifier-free guidance; it needs a ``guidance_scale`` above 1.
        options: Further arguments of the pipeline's call.
        strength: What the adapter's effect on each layer is multiplied by; 1 is as it was trained.

    Raises:
        ConfigError: There is a negative prompt that the pipeline would not use.
    """

    pipeline: Any
    adapter: str | None = None
    num_inference_steps: int | None = 20
    guidance_scale: float | None = 1.0
    batch_size: int = 32
    height: int | None = None
    width: int | None = None
    negative_prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 1.0

    def __post_init__(self) -> None:
        family = FAMILIES.get(type(self.pipeline).__name__)
        if family is not None:
            family.check_negative(self.pipeline, self.negative_prompt, self.guidance_scale)
            return
        check_negative_prompt("", self.negative_prompt, self.guidance_scale)
        require(
            not self.negative_prompt or "negative_prompt" in inspect.signature(type(self.pipeline).__call__).parameters,
            f"negative_prompt is {self.negative_prompt!r}, but {type(self.pipeline).__name__} takes none; leave it out.",
        )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return images in [0, 1], ``(b, 3, height, width)``; image i starts from noise of seed i."""
        with self._adapter():
            batches = [slice(first, first + self.batch_size) for first in range(0, len(prompts), self.batch_size)]
            return torch.cat([self._draw(list(prompts[batch]), list(seeds[batch])) for batch in batches])

    @contextmanager
    def _adapter(self) -> Iterator[None]:
        if self.adapter is not None:
            self.pipeline.set_adapters(self.adapter, self.strength)
            yield
            return
        loaded = (
            any(self.pipeline.get_list_adapters().values()) if hasattr(self.pipeline, "get_list_adapters") else False
        )
        if not loaded:
            yield
            return
        self.pipeline.disable_lora()
        try:
            yield
        finally:
            self.pipeline.enable_lora()

    def _draw(self, prompts: list[str], seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        numbers = {"height": self.height, "width": self.width, "num_inference_steps": self.num_inference_steps}
        with unfiltered(self.pipeline):
            output: Tensor = self.pipeline(
                prompt=prompts,
                generator=generators,
                output_type="pt",
                **{name: number for name, number in numbers.items() if number is not None},
                **self._guidance(len(prompts)),
                **self.options,
            ).images
        return output.float().cpu()

    def _guidance(self, count: int) -> dict[str, Any]:
        if self.guidance_scale is None:
            return {}
        family, negative = FAMILIES.get(type(self.pipeline).__name__), [self.negative_prompt] * count
        if family is None:
            asked = {"negative_prompt": negative} if self.negative_prompt else {}
            return {"guidance_scale": self.guidance_scale, **asked}
        return family.call_arguments(self.pipeline, self.guidance_scale, negative)
