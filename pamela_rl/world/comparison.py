"""A finished run opened for a comparison, with what only the world knows where the world draws."""

from __future__ import annotations

from pathlib import Path

import torch

from pamela_rl.data.phrases import PHOTOGRAPHIC
from pamela_rl.data.prompts import read_metadata, read_prompts
from pamela_rl.evaluation.settings import RunSettings
from pamela_rl.evaluation.source import Source, open_source
from pamela_rl.rewards.opening import open_scorers
from pamela_rl.rewards.settings import WORLD
from pamela_rl.steering.opening import open_service
from pamela_rl.world.captions import PHRASEBOOK, train_and_held_out_prompts
from pamela_rl.world.scorers import world_scorers


def open_run(settings: RunSettings, folder: Path) -> Source:
    """Load a run's reward, scorers and adapters, and the pipeline or service that draws.

    Args:
        settings: What to open.
        folder: Where images of a service are kept.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    in_world = settings.in_world
    content = settings.content or (WORLD if in_world else "none")
    reward, scorers = open_scorers(
        settings.reward_folder, settings.judge_folder, settings.encoder, settings.judge_encoder, content,
        settings.watch, device, {} if settings.prompts is None else read_metadata(settings.prompts),
    )  # fmt: skip
    users = (settings.compared_users() or list(reward.model.user_ids)) if in_world else []
    train_prompts, held_out = train_and_held_out_prompts()
    prompts = held_out if settings.prompts is None else read_prompts(settings.prompts)
    return open_source(
        settings.run, settings.base_model, reward, scorers | world_scorers(users, content == WORLD),
        prompts[: settings.num_prompts], train_prompts if in_world else prompts,
        PHRASEBOOK if in_world else PHOTOGRAPHIC, settings.users, open_service(settings.service, folder),
        settings.dtype, device, settings.base_model_config,
    )  # fmt: skip
