"""Settings of images that are drawn to be rated; checked without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pamela_rl.config.checks import check_negative_prompt
from pamela_rl.diffusion.saved_adapters import adapter_base_model, adapter_digest, drawn_with
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.settings import check_counts
from pamela_rl.storage import SHIPPED_PIPELINES


@dataclass(frozen=True)
class RatedDrawing:
    """How images are drawn.

    Attributes:
        model: The base model.
        adapter: Folder of an adapter to draw with; None draws with the base model alone.
        num_inference_steps: None takes the adapter's, else the pipeline's own number, 20 for shipped models.
        guidance_scale: 1 draws without guidance; None takes the adapter's, else the pipeline's own, 1 for shipped models.
        negative_prompt: For guidance; None takes the adapter's, else none.
        batch_size: Images a call.
        seed: Of the noise.

    Raises:
        ConfigError: A setting is out of range, or the adapter is of another base model.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: Path | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(batch_size=self.batch_size, num_inference_steps=self.num_inference_steps)
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; use 0 or more.")
        if self.guidance_scale is not None and not self.guidance_scale >= 1:
            raise ConfigError(f"guidance_scale is {self.guidance_scale}; use 1, which is no guidance, or more.")
        if self.model.shard:
            raise ConfigError("model.shard is true, but images are drawn by one process; use model.offload instead.")
        trained_on = None if self.adapter is None else adapter_base_model(self.adapter)
        if trained_on not in (None, self.model.name) and {trained_on, self.model.name} & set(SHIPPED_PIPELINES):
            raise ConfigError(
                f"model.name is {self.model.name!r}, but the adapter in {self.adapter} is of {trained_on!r}."
            )
        self._fill_in()
        check_negative_prompt("", self.negative_prompt or "", self.guidance_scale)

    def _fill_in(self) -> None:
        """Draw as the adapter was trained to be drawn, where nothing else is asked for."""
        usual: dict[str, Any] = (
            {"num_inference_steps": 20, "guidance_scale": 1.0} if self.model.name in SHIPPED_PIPELINES else {}
        )
        usual |= {} if self.adapter is None else drawn_with(self.adapter)
        if self.guidance_scale == 1:
            usual.pop("negative_prompt", None)
        for name in ("num_inference_steps", "guidance_scale", "negative_prompt"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual.get(name))
        size = {
            side: usual[side] for side in ("height", "width") if side in usual and getattr(self.model, side) is None
        }
        object.__setattr__(self, "model", replace(self.model, **size))

    def facts(self) -> dict[str, Any]:
        """Return all that an image depends on beside its prompt and number, by the names of the recipe's settings."""
        return {
            "model.name": self.model.name,
            "model.config": None if self.model.config is None else str(self.model.config),
            "model.dtype": self.model.dtype,
            "model.height": self.model.height,
            "model.width": self.model.width,
            "adapter": None if self.adapter is None else adapter_digest(self.adapter),
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
        }
