"""How a family of models is guided: by two branches or a distilled scale, and which of its pipeline's arguments say so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from pamela_rl.config.checks import check_negative_prompt
from pamela_rl.errors import ConfigError


class Guided(ABC):
    """What a policy knows of guidance from its pipeline alone.

    Attributes:
        component: Which part of the pipeline is the denoiser, "unet" or "transformer".
    """

    component: ClassVar[str] = "transformer"

    @classmethod
    @abstractmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments: scale 1 is none, ``negative`` one prompt an image or ""."""

    @classmethod
    def embeds_guidance(cls, pipeline: Any) -> bool:
        """Whether guidance is distilled into the denoiser, which then takes its scale as an input."""
        return bool(getattr(getattr(pipeline, cls.component).config, "guidance_embeds", False))

    @classmethod
    def has_unconditional_branch(cls, pipeline: Any, guidance_scale: float) -> bool:
        """Whether the denoiser is called for a negative prompt, too."""
        return guidance_scale > 1 and not cls.embeds_guidance(pipeline)

    @classmethod
    def check_negative(cls, pipeline: Any, negative_prompt: str, guidance_scale: float | None) -> None:
        """Refuse a negative prompt that would do nothing.

        Raises:
            ConfigError: There is no guidance, or it is distilled into the model.
        """
        check_negative_prompt("", negative_prompt, guidance_scale)
        if negative_prompt and not cls.has_unconditional_branch(pipeline, guidance_scale or 1.0):
            raise ConfigError(
                f"negative_prompt is {negative_prompt!r}, but guidance is distilled into this {type(pipeline).__name__}, which "
                "has no unconditional branch to use it; leave it out."
            )

    def guide(self, unconditional: Tensor, conditional: Tensor, guidance_scale: float) -> Tensor:
        """Combine both branches: classifier-free guidance (arXiv:2207.12598)."""
        return unconditional + guidance_scale * (conditional - unconditional)
