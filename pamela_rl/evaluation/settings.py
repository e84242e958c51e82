"""Settings of a comparison: the finished run that is compared, and how images are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pamela_rl.config.checks import check_negative_prompt, refuse_unused
from pamela_rl.data.prompts import check_prompt_file
from pamela_rl.diffusion.model_files import check_model_files
from pamela_rl.diffusion.saved_adapters import adapter_folder, drawn_with, list_adapters
from pamela_rl.diffusion.settings import Dtype
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.choice import check_named
from pamela_rl.rewards.saved import check_rewards, judge_folder
from pamela_rl.steering.settings import ServiceSettings
from pamela_rl.storage import SHIPPED_PIPELINES

_USUAL: Mapping[str, Any] = {
    "num_inference_steps": 20, "guidance_scale": 1.0, "negative_prompt": "", "height": None, "width": None,
}  # fmt: skip


@dataclass(frozen=True)
class DrawingSettings:
    """How images are drawn; what is None is as the adapters say they were trained to be drawn.

    Attributes:
        num_inference_steps: Of the images compared; 20 where no adapter says.
        search_inference_steps: Of the images a search draws.
        guidance_scale: 1 draws without guidance, as where no adapter says.
        negative_prompt: For guidance; none where no adapter says.
        batch_size: Images a call.
        height: Pixels; the model's own where no adapter says.
        width: Pixels, likewise.
    """

    num_inference_steps: int | None = None
    search_inference_steps: int = 10
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    batch_size: int = 32
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        check_counts(
            **{
                f"drawing.{name}": getattr(self, name)
                for name in ("num_inference_steps", "search_inference_steps", "batch_size", "height", "width")
            }
        )

    def check_service(self, service: ServiceSettings) -> None:
        """Refuse what a service would ignore.

        Raises:
            ConfigError: Names the setting.
        """
        for name in _USUAL:
            if getattr(self, name) is not None:
                raise ConfigError(f"drawing.{name} is given, but the service {service.kind} takes none; leave it out.")

    def as_trained(self, adapters: Sequence[Path]) -> DrawingSettings:
        """Fill in what is None from the folders of the adapters compared.

        Raises:
            ConfigError: Adapters differ in it, or a negative prompt has no guidance.
        """
        facts, found = [drawn_with(folder) for folder in adapters], {}
        for name, usual in _USUAL.items():
            own = list(dict.fromkeys(fact.get(name, usual) for fact in facts)) or [usual]
            if getattr(self, name) is None:
                if len(own) > 1:
                    raise ConfigError(
                        f"the adapters compared were trained with drawing.{name} {own[0]!r} and {own[1]!r}; give the one to draw with."
                    )
                found[name] = own[0]
        chosen = replace(self, **found)
        if self.negative_prompt is None and chosen.guidance_scale == 1:
            chosen = replace(chosen, negative_prompt="")
        check_negative_prompt("drawing.", chosen.negative_prompt or "", chosen.guidance_scale)
        return chosen


def check_drawn_by(settings: Any, service: ServiceSettings, base_model: str, base_model_config: Path | None) -> None:
    """Refuse a base model that is not there, and settings of what does not draw.

    Args:
        settings: That have the others, by these names, and ``dtype``.
        service: Draws, if it has a model.
        base_model: Draws else.
        base_model_config: Of a single file.

    Raises:
        ConfigError: Names the setting.
    """
    if service.model is None:
        refuse_unused(settings, ("service",), "there is no service.model")
        check_model_files(base_model, base_model_config, "base_model", "base_model_config")
    else:
        refuse_unused(settings, ("base_model", "base_model_config", "dtype"), "service.model draws")


@dataclass(frozen=True)
class RunSettings:
    """A finished run, and what draws and scores for its users.

    Attributes:
        run: A finished run, with ``adapters/``.
        reward: What pamela fit wrote, or the folder of the reward in it that the run was trained with; None is
            ``rewards/personal`` in the run.
        judge: Folder of another one, only watched; None is ``rewards/judge`` in the run, or the one fitted beside the
            reward, where there is one.
        base_model: "world", "flow", a hub id, a folder of a pipeline or a single .safetensors file.
        base_model_config: For a single file: the folder of a pipeline of the same kind, for the settings of its parts.
        dtype: Of the base model's weights.
        encoder: Of the run's reward; None is the one it was fitted with, from where that was.
        judge_encoder: Of the judge, likewise.
        users: Whom to compare; none means everybody with an adapter.
        prompts: Held-out prompts, one a line or in a .jsonl file; the world has its own.
        num_prompts: How many of them.
        content: What tells whether pictures show what was asked: "world", "none", or a reward such as "clip_score".
        watch: Rewards to be watched: of the average person, e.g. [pickscore, hpsv2.1], or Python files with a function ``reward``.
        service: A remote service that draws instead of the base model; then there are no adapters.
    """

    run: Path
    reward: Path | None = None
    judge: Path | None = None
    base_model: str = "world"
    base_model_config: Path | None = None
    dtype: Dtype = "float32"
    encoder: str | None = None
    judge_encoder: str | None = None
    users: list[str] = field(default_factory=list)
    prompts: Path | None = None
    num_prompts: int = 16
    content: str | None = None
    watch: list[str] = field(default_factory=list)
    service: ServiceSettings = field(default_factory=ServiceSettings)

    def __post_init__(self) -> None:
        check_counts(num_prompts=self.num_prompts)
        check_drawn_by(self, self.service, self.base_model, self.base_model_config)
        drawn_by = self.base_model if self.service.model is None else self.service.kind
        check_prompt_file(self.prompts, None if self.in_world else f"pictures are drawn by {drawn_by}")
        for name in self.watch:
            check_named(name)
        check_rewards(self.reward_folder, self.judge_folder, self.compared_users())
        if self.judge_folder is None:
            refuse_unused(self, ("judge_encoder",), "there is no judge")

    @property
    def in_world(self) -> bool:
        """Whether a shipped model draws, so that users, prompts and scenes are the world's."""
        return self.base_model in SHIPPED_PIPELINES and self.service.model is None

    @property
    def reward_folder(self) -> Path:
        """Where the reward is."""
        return self.reward or self.run / "rewards" / "personal"

    @property
    def judge_folder(self) -> Path | None:
        """Where the judge is, if there is one."""
        own = self.run / "rewards" / "judge"
        return self.judge or (own if own.is_dir() else judge_folder(self.reward_folder))

    def compared_users(self) -> list[str]:
        """Return the users with an adapter who are compared; with a service, those named.

        Raises:
            AdapterError: The run has no adapters, or none of a user.
        """
        if self.service.model is not None:
            return self.users
        for user in self.users:
            adapter_folder(self.run, user)
        return self.users or list(list_adapters(self.run))

    def check_drawing(self, drawing: DrawingSettings) -> None:
        """Refuse what cannot be drawn for the adapters compared, or what a service would ignore.

        Raises:
            ConfigError: Names the setting.
        """
        if self.service.model is None:
            drawing.as_trained([adapter_folder(self.run, user) for user in self.compared_users()])
            return
        drawing.check_service(self.service)

    def check_further_runs(self, runs: Mapping[str, Path]) -> None:
        """Refuse further runs, by the name of their arm, that lack an adapter of a user compared.

        Raises:
            ConfigError: Names the arm, the run and the user.
            AdapterError: A run has no adapters.
        """
        for arm, run in runs.items():
            adapters = list_adapters(run)
            for user in self.compared_users():
                if user not in adapters:
                    raise ConfigError(
                        f"arm {arm!r} takes adapters from {run}, which has none of {user!r}; leave it out."
                    )


def check_counts(**counts: int | None) -> None:
    """Refuse a count below 1, by its name; None is left to be chosen.

    Raises:
        ConfigError: Names the count.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ConfigError(f"{name} is {count}; use 1 or more.")
