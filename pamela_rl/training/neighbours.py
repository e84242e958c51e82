"""A newcomer's adapter begins as a mix of those of the people whose taste is nearest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.adapter_bank import with_effect
from pamela_rl.diffusion.adapters import adapter_rank, add_adapter, read_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.mixing import mix_adapters
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import INFO
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import ensure_writable, folder_name
from pamela_rl.training.outcomes import TABLE

NEIGHBOURS = 3
Foretell = Callable[[Tensor, Sequence[str], Sequence[str]], Mapping[str, Tensor]]
_NUM_IMAGES = 64  # of the base model, by which tastes are compared
_NAME = "mix"


def newcomers(run: Path, users: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell newcomers from those who have adapters: who was not there when the run's last command ended, and who was.

    Only a command that came to its end tells, so that one that was killed goes on as it had begun.

    Returns:
        Users without a place in ``users.parquet``, and those in it whose adapter is published; none where there are too few
        of these, or no such table.
    """
    if not (run / TABLE).exists():
        return [], []
    known = [str(user) for user in pd.read_parquet(run / TABLE)["user"]]
    settled = [user for user in known if (run / "adapters" / folder_name(user) / INFO).exists()]
    return ([user for user in users if user not in known], settled) if len(settled) >= NEIGHBOURS else ([], [])


def starts_of(
    policy: Policy,
    foretell: Foretell,
    known: Collection[str],
    prompts: Sequence[str],
    users: Sequence[str],
    config: TrainConfig,
    run: Path,
    num_inference_steps: int,
) -> dict[str, Path]:
    """Return where newcomers' adapters begin: ``starts/<user>`` of the run, made at their first command and kept.

    Args:
        policy: Without an adapter.
        foretell: Takes images, their prompts and users, and returns each user's ratings of all of them.
        known: Users whom it knows.
        prompts: Of the training; a few images of theirs are drawn, to compare tastes by.
        users: Of this command.
        config: Of the training, whose rank neighbours must have.
        run: The run's folder.
        num_inference_steps: Of these images.
    """
    if not (run / "starts").exists() and not newcomers(run, users)[0]:
        return {}
    starts = {user: run / "starts" / folder_name(user) for user in users}
    with FileLock(ensure_writable(run / "starts") / ".lock"):  # the first of several processes makes them
        found = {user: folder for user, folder in starts.items() if (folder / "adapters" / _NAME / INFO).exists()}
        new, settled = newcomers(run, users)
        settled = [user for user in settled if user in known]
        missing = [user for user in new if user not in found]
        if missing and len(settled) >= NEIGHBOURS:
            scores = _opinions(policy, foretell, prompts, [*missing, *settled], config, num_inference_steps)
            for user in missing:
                near = nearest(user, settled, scores)
                states = [read_adapter(policy, run / "adapters" / folder_name(other)) for other in near]
                if any(adapter_rank(state) != config.lora.rank for state in states):
                    continue  # of an earlier rank: nothing to begin from
                add_adapter(policy, _NAME, config.lora, config.seed)
                as_trained = [with_effect(state, 1 / config.lora.scale) for state in states]
                policy.adapters[_NAME].load(mix_adapters(as_trained, [1 / NEIGHBOURS] * NEIGHBOURS))
                save_adapter(policy, _NAME, _NAME, starts[user], {"neighbours": ", ".join(near)}, {})
                remove_adapter(policy, _NAME)
                found[user] = starts[user]
    return {user: folder / "adapters" / _NAME for user, folder in found.items()}


def nearest(user: str, others: Sequence[str], scores: Mapping[str, Tensor]) -> list[str]:
    """Return whose ratings of the same images are foretold most like a user's, by correlation, the nearest first."""

    def likeness(other: str) -> float:
        with np.errstate(invalid="ignore"):  # of one who rates all alike
            found = np.corrcoef(scores[user].numpy(), scores[other].numpy())[0, 1]
        return float(np.nan_to_num(found, nan=-1.0))

    return sorted(others, key=likeness, reverse=True)[:NEIGHBOURS]


@torch.no_grad()
def _opinions(
    policy: Policy,
    foretell: Foretell,
    prompts: Sequence[str],
    users: Sequence[str],
    config: TrainConfig,
    num_inference_steps: int,
) -> dict[str, Tensor]:
    """Foretell what each user thinks of the same images of the base model, ``(b,)`` each."""
    asked = [prompts[row % len(prompts)] for row in range(_NUM_IMAGES)]
    draw = PipelineGenerator(
        policy.pipeline, None, num_inference_steps, config.drawn.guidance_scale, config.sampled_at_once, policy.height,
        policy.width, config.drawn.negative_prompt,
    )  # fmt: skip
    with policy.all_on_device():
        images = draw(asked, range(_NUM_IMAGES)).to(policy.device)
    return {user: ratings.cpu().double() for user, ratings in foretell(images, asked, users).items()}
