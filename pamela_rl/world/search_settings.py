"""Settings of a prompt search for people of one's own; checked without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.config.checks import refuse_unused
from pamela_rl.data.prompts import check_prompt_file
from pamela_rl.diffusion.settings import Dtype
from pamela_rl.evaluation.settings import DrawingSettings, check_counts, check_drawn_by
from pamela_rl.rewards.saved import SavedReward, check_rewards
from pamela_rl.steering.settings import ChatSettings, PromptSearchSettings, ServiceSettings
from pamela_rl.storage import SHIPPED_PIPELINES


@dataclass(frozen=True)
class SearchSettings:
    """For whom prompts are searched, and what draws and scores.

    Attributes:
        reward: What pamela fit wrote, or the folder of one reward in it.
        output_dir: Gets ``winners.csv``, ``prompts/`` with every user's winning prompts, and all that was drawn; the same
            command goes on where it was stopped.
        users: For whom; none means everybody the reward knows.
        prompts: Requests, one a line; the world has its own.
        num_prompts: How many of them; None is all.
        base_model: "world", "flow", a hub id, a folder of a pipeline or a single .safetensors file.
        base_model_config: For a single file: the folder of a pipeline of the same kind, for the settings of its parts.
        dtype: Of the base model's weights.
        encoder: Of the reward; None is the one it was fitted with, from where that was.
        content: What tells whether images show what was asked: "world", its models' default; "none", or e.g. "clip_score".
        reference_images: Of the base model, from which tastes are put into words.
        drawing: How images are drawn; a search takes search_inference_steps.
        search: Its rounds and budget.
        chat: A language model that proposes prompts too.
        service: A remote service that draws instead of the base model.
    """

    reward: Path
    output_dir: Path = Path("outputs/search")
    users: list[str] = field(default_factory=list)
    prompts: Path | None = None
    num_prompts: int | None = None
    base_model: str = "world"
    base_model_config: Path | None = None
    dtype: Dtype = "float32"
    encoder: str | None = None
    content: str | None = None
    reference_images: int = 192
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    search: PromptSearchSettings = field(default_factory=PromptSearchSettings)
    chat: ChatSettings = field(default_factory=ChatSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)

    def __post_init__(self) -> None:
        check_counts(num_prompts=self.num_prompts, reference_images=self.reference_images)
        check_rewards(self.reward, None, self.users)
        check_drawn_by(self, self.service, self.base_model, self.base_model_config)
        if self.chat.model is None:
            refuse_unused(self, ("chat",), "there is no chat.model")
        if self.service.model is None:
            self.drawing.as_trained([])
        else:
            self.drawing.check_service(self.service)
        drawn_by = self.base_model if self.service.model is None else self.service.kind
        check_prompt_file(self.prompts, None if self.in_world else f"images are drawn by {drawn_by}")

    @property
    def in_world(self) -> bool:
        """Whether a shipped model draws."""
        return self.base_model in SHIPPED_PIPELINES and self.service.model is None

    @property
    def searched_for(self) -> list[str]:
        """Users to search for."""
        return self.users or list(SavedReward.read(self.reward).user_ids)
