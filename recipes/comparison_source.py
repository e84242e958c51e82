"""What a comparison needs of a finished run: its people, adapters, scorers, prompts and pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pamela_rl.data.phrases import PHOTOGRAPHIC, Phrasebook
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import list_adapters, load_adapter
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.pixels import NAME as PIXELS
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.steering.generators import load_pipeline
from pamela_rl.types import Scorer
from pamela_rl.world import ENCODER, load_judge
from pamela_rl.world import load_pipeline as load_world
from pamela_rl.world.captions import PHRASEBOOK, train_and_held_out_prompts
from pamela_rl.world.judge import Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters

WORLD = "world"


@dataclass(frozen=True)
class Source:
    """Everything arms are made of.

    Attributes:
        pipeline: With the adapters of everybody compared loaded, named as ``folder_name`` does.
        users: People compared.
        reward: The personal reward.
        scorers: By name: ``reward``, where there are any ``judge``, ``faithfulness``, ``true_rating``, and what else
            is watched.
        prompts: Held out.
        seen_prompts: To draw reference pictures from, for tastes in words.
        book: What prompts may add.
    """

    pipeline: Any
    users: list[str]
    reward: PersonalReward
    scorers: dict[str, Scorer]
    prompts: list[str]
    seen_prompts: list[str]
    book: Phrasebook

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
) -> Source:
    """Load a run's rewards and adapters, and the pipeline they belong to.

    Args:
        run: A folder with ``rewards/personal``, perhaps ``rewards/judge``, and ``adapters/``.
        base_model: "world", a hub id or a folder.
        encoder: Of the rewards: "world", "pixels", or what open_clip knows.
        users: Whom to compare; none means everybody with an adapter.
        prompts: A text file, one held-out prompt a line; None takes the world's.
        num_prompts: How many of them.
        content: "world", "clip_score" or "none".
        watch: Further rewards by name, only watched.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    in_world = base_model == WORLD
    if prompts is None and not in_world:
        raise ConfigError(f"base_model is {base_model!r}, for which no prompts are known; give --prompts FILE.")
    seen, held_out = train_and_held_out_prompts()
    chosen = held_out if prompts is None else list(PromptSource.from_file(prompts, "anybody").prompts)
    pipeline = (load_world() if in_world else load_pipeline(base_model)).to(device)
    adapters = list_adapters(run)
    people = list(users) or _in_order(run, adapters)
    for user in people:
        load_adapter(pipeline, run, user)
    features = _load_encoder(encoder, device)
    reward = PersonalReward.load(run / "rewards" / "personal", features)
    scorers: dict[str, Scorer] = {"reward": reward}
    if (run / "rewards" / "judge").is_dir():
        scorers["judge"] = Judge.apart_from(reward, PersonalReward.load(run / "rewards" / "judge", features))
    if in_world:
        scorers["true_rating"] = TrueRating(make_raters(), load_judge())
    if content == WORLD:
        scorers["faithfulness"] = Faithfulness(load_judge())
    elif content != "none":
        scorers["faithfulness"] = load_population_reward(content, device)
    scorers |= {name: load_population_reward(name, device) for name in watch}
    book = PHRASEBOOK if in_world else PHOTOGRAPHIC
    return Source(pipeline, people, reward, scorers, chosen[:num_prompts], seen if in_world else chosen, book)


def _in_order(run: Path, adapters: dict[str, Path]) -> list[str]:
    """People with an adapter, in the order in which the run chose them where that is known."""
    chosen = run / "rewards" / "rewards.json"
    order = json.loads(chosen.read_text(encoding="utf-8"))["users"] if chosen.exists() else sorted(adapters)
    return [user for user in order if user in adapters] or sorted(adapters)


def _load_encoder(name: str, device: str) -> FeatureEncoder | PixelEncoder:
    return PixelEncoder() if name == PIXELS else FeatureEncoder.load(ENCODER if name == WORLD else name, device)
