"""What to do with adapters once they are trained, ready to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.types import Scorer

MAX_NAMED = 10  # people who are named one by one


def next_steps(
    adapters: Mapping[str, Path], run: Path, reward: Path | None, model: ModelSettings, scorers: Mapping[str, Scorer]
) -> str:
    """Say where adapters are, who tells whether they are good, and how to find out.

    Args:
        adapters: Folder of each user's adapter.
        run: The run's folder.
        reward: What it was trained against or watched by, as it was given; None for neither.
        model: The base model.
        scorers: Of the run, by name.
    """
    lines = [f"{user}: {folder}" for user, folder in list(adapters.items())[:MAX_NAMED]]
    lines += [f"… and {len(adapters) - MAX_NAMED:,} more in {run / 'adapters'}"] if len(adapters) > MAX_NAMED else []
    basis = getattr(scorers.get("judge"), "basis", None)
    lines.append(
        "There is no judge, so only the reward itself tells whether they are good: believe your eyes."
        if basis is None
        else f"What the judge said on the way ({basis}) is in each user's validation.jsonl and curves.png."
    )
    pages = f"--run {shlex.quote(str(run / 'evaluation'))}"
    where = (
        f"--run {shlex.quote(str(run))} --reward {'outputs/my-reward' if reward is None else shlex.quote(str(reward))}"
    )
    if model.name != "world":
        parts = "" if model.config is None else f" --base_model_config {shlex.quote(str(model.config))}"
        where += f" --base_model {shlex.quote(model.name)}{parts} --dtype {model.dtype} --prompts held_out.txt"
    lines += [
        f"Next, compare with the base model on other prompts:\n  pamela evaluate {where}",
        f"then choose between both without knowing which is which:\n  pamela blind-test {pages} "
        f"--output_dir {shlex.quote(str(run / 'blind_test'))}",
    ]
    return "\n".join(lines)
