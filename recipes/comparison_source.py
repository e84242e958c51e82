"""What a comparison needs of a finished run: its people, adapters, scorers, prompts and pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from run_source import open_pipeline, open_scorers

from pamela_rl.data.phrases import PHOTOGRAPHIC, Phrasebook
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import list_adapters, load_adapter
from pamela_rl.diffusion.loading import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.http import ServiceConfig
from pamela_rl.steering.ledger import Budget
from pamela_rl.steering.remote import RemoteGenerator
from pamela_rl.steering.services import GeminiImages, ImageService, OpenAIImages
from pamela_rl.types import Scorer
from pamela_rl.world import PIPELINES
from pamela_rl.world.captions import PHRASEBOOK, train_and_held_out_prompts

_VENDORS = {
    "gemini": ("https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
    "openai": ("https://api.openai.com", "OPENAI_API_KEY"),
}


@dataclass(frozen=True)
class ServiceSettings:
    """A remote service that draws, for models without open weights.

    Attributes:
        model: As the service names it; None draws with ``base_model``.
        kind: Whose requests and answers look like it.
        url: Base address; None is the vendor's own.
        key_variable: Environment variable that holds the key; None is the vendor's usual one.
        max_images: Pictures that may be bought, over all runs with this output folder.
        price_per_image: In money.
        max_cost: In money, over all runs with this output folder.
        size: Height and width of the pictures compared, pixels.
        requests_per_minute: Most requests started in a minute.
    """

    model: str | None = None
    kind: Literal["gemini", "openai"] = "gemini"
    url: str | None = None
    key_variable: str | None = None
    max_images: int = 500
    price_per_image: float = 0.04
    max_cost: float = 20.0
    size: int = 512
    requests_per_minute: float = 60.0

    def open(self, folder: Path) -> RemoteGenerator | None:
        """Reach for the service; pictures and the ledger are kept in ``folder``. None where there is none."""
        if self.model is None:
            return None
        service: ImageService = GeminiImages(self.model) if self.kind == "gemini" else OpenAIImages(self.model)
        url, variable = _VENDORS[self.kind]
        where = ServiceConfig(
            self.url or url, self.key_variable or variable, requests_per_minute=self.requests_per_minute
        )
        budget = Budget(self.max_images, self.price_per_image, self.max_cost)
        return RemoteGenerator(service, where, budget, folder, height=self.size, width=self.size)


@dataclass(frozen=True)
class Source:
    """Everything arms are made of.

    Attributes:
        pipeline: With the adapters of everybody compared loaded, named as ``folder_name`` does; None for a service.
        remote: A service that draws instead of a pipeline; it has no adapters.
        users: People compared.
        reward: The personal reward.
        scorers: By name: ``reward``, where there are any ``judge``, ``faithfulness``, ``true_rating``, and what else
            is watched.
        prompts: Held out.
        seen_prompts: To draw reference pictures from, for tastes in words.
        book: What prompts may add.
    """

    pipeline: Any
    remote: RemoteGenerator | None
    users: list[str]
    reward: PersonalReward
    scorers: dict[str, Scorer]
    prompts: list[str]
    seen_prompts: list[str]
    book: Phrasebook

    @property
    def adapted(self) -> bool:
        """Whether people have adapters."""
        return self.remote is None

    @property
    def content(self) -> Scorer | None:
        """What tells whether pictures show what was asked for."""
        return self.scorers.get("faithfulness")


def open_source(
    run: Path,
    base_model: str,
    encoder: str,
    users: Sequence[str],
    prompts: Path | None,
    num_prompts: int,
    content: str,
    watch: Sequence[str],
    remote: RemoteGenerator | None,
    reward_folder: Path | None = None,
    judge_folder: Path | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    judge_encoder: str | None = None,
) -> Source:
    """Load a run's rewards and adapters, and the pipeline they belong to.

    Args:
        run: A folder with ``rewards/personal``, perhaps ``rewards/judge``, and ``adapters/``.
        base_model: "world", "flow", a hub id or a folder.
        encoder: Of the reward: "world", "pixels", or what open_clip knows.
        users: Whom to compare; none means everybody with an adapter.
        prompts: A text file, one held-out prompt a line; None takes the world's.
        num_prompts: How many of them.
        content: "world", "clip_score" or "none".
        watch: Further rewards by name, only watched.
        remote: Draws instead of ``base_model``.
        reward_folder: Where the reward is; None is ``rewards/personal`` in the run.
        judge_folder: Where the judge is; None is ``rewards/judge`` in the run, where that is.
        dtype: Of the base model's weights.
        judge_encoder: Of the judge; None is the reward's.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    in_world = base_model in PIPELINES and remote is None
    seen, chosen = _prompts(prompts, None if in_world else base_model if remote is None else remote.service.name)
    adapters = list_adapters(run) if remote is None else {}
    people = list(users) or _in_order(run, adapters)
    pipeline = None
    if remote is None:
        pipeline = open_pipeline(ModelSettings(base_model, dtype)).to(device)
        for user in people:
            load_adapter(pipeline, run, user)
    own = run / "rewards" / "judge"
    judge = judge_folder or (own if own.is_dir() else None)
    reward, scorers = open_scorers(
        reward_folder or run / "rewards" / "personal", judge, encoder, device, content, watch, in_world, judge_encoder
    )
    book = PHRASEBOOK if in_world else PHOTOGRAPHIC
    return Source(
        pipeline,
        remote,
        people or list(reward.model.user_ids),
        reward,
        scorers,
        chosen[:num_prompts],
        seen,
        book,
    )


def _prompts(file: Path | None, drawn_by: str | None) -> tuple[list[str], list[str]]:
    """Prompts to describe tastes with, and those to compare on; outside the world, where ``drawn_by`` is, the same."""
    if file is None and drawn_by is not None:
        raise ConfigError(f"pictures are drawn by {drawn_by}, for which no prompts are known; give --prompts FILE.")
    seen, held_out = train_and_held_out_prompts()
    chosen = held_out if file is None else list(PromptSource.from_file(file, "anybody").prompts)
    return (seen if drawn_by is None else chosen), chosen


def _in_order(run: Path, adapters: dict[str, Path]) -> list[str]:
    """People with an adapter, or all where nobody has one, in the order in which the run chose them if that is known."""
    chosen = run / "rewards" / "rewards.json"
    order = json.loads(chosen.read_text(encoding="utf-8"))["users"] if chosen.exists() else sorted(adapters)
    return [user for user in order if user in adapters or not adapters] or sorted(adapters)
