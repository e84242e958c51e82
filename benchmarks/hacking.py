"""Reward hacking: train against a linear reward without uncertainty, judge or KL penalty, and write the report.

python benchmarks/hacking.py [OUTPUT_DIR]

A linear fit of one user's ratings over lightness, warmth and colourfulness has no ideal point, so its reward has no maximum.
The adapter is trained against it for twice as long as usual, then compared by true ratings on held-out prompts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.adapters import load_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.evaluation.compare import Arm, compare_user, summarize
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.verdict import overall_verdict
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import folder_name, read_metrics
from pamela_rl.training.personalize import Provenance, personalize
from pamela_rl.types import RewardOutput
from pamela_rl.world.captions import train_and_held_out_prompts, world_prompts
from pamela_rl.world.judge import ContentJudge, Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters
from pamela_rl.world.ratings import make_ratings

USER = "rater-009"
CONFIG = TrainConfig(num_iterations=60)


def simple_features(images: Tensor) -> Tensor:
    """Lightness, warmth, colourfulness and a constant, ``(b, 4)``."""
    red, blue = images[:, 0].mean(dim=(1, 2)), images[:, 2].mean(dim=(1, 2))
    colour = (images.amax(dim=1) - images.amin(dim=1)).mean(dim=(1, 2))
    return torch.stack([images.mean(dim=(1, 2, 3)), red - blue, colour, torch.ones_like(red)], dim=1)


class LinearReward:
    """A least-squares linear reward of one user's ratings; it has no uncertainty and ignores the prompt."""

    def __init__(self, images: Tensor, ratings: Tensor):
        self.weights = torch.linalg.lstsq(simple_features(images), ratings[:, None]).solution.squeeze(1)

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score images, ``(b,)``, the same for every user."""
        return RewardOutput(simple_features(images) @ self.weights)


def main(folder: Path) -> None:
    """Fit the linear reward, train against it, compare, and print the verdict."""
    raters, content = make_raters(), ContentJudge.load()
    ratings = make_ratings(raters, content)
    own = ratings.table[(ratings.table["user_id"] == USER) & (ratings.table["split"] == "train")]
    rows = torch.from_numpy(own["image_index"].to_numpy(copy=True))
    reward = LinearReward(ratings.images[rows], torch.from_numpy(own["rating"].to_numpy(copy=True)).float())
    print(f"weights of lightness, warmth, colourfulness: {[round(float(w), 2) for w in reward.weights[:3]]}")
    scorers = {"reward": reward, "true_rating": TrueRating(raters, content), "faithfulness": Faithfulness(content)}
    monitors = {name: scorer for name, scorer in scorers.items() if name != "reward"}
    policy = policy_for(load_pipeline("world"))
    held_out = train_and_held_out_prompts()[1]
    personalize(
        policy, reward, world_prompts(USER), CONFIG, DDPO(kl_weight=0.0), folder, Accelerator(),
        Provenance("pamela_rl world", "linear, to be hacked"), monitors,
    )  # fmt: skip
    load_adapter(policy.pipeline, folder, USER)
    arms = [
        Arm("base", PipelineGenerator(policy.pipeline)),
        Arm("own", PipelineGenerator(policy.pipeline, folder_name(USER))),
    ]
    comparison = compare_user(USER, arms, held_out, 2, scorers)
    summary = summarize([comparison])
    validation = {USER: read_metrics(folder / "users" / folder_name(USER) / "validation.jsonl")}
    tastes = {USER: f"likes {raters.describe(USER)}"}
    page = write_report(folder, Report(summary, [comparison], validation=validation, tastes=tastes))
    gains = {name: round(value["estimate"], 2) for name, value in summary["overall"]["own"]["gain"].items()}
    print(f"gains: {gains}\n{overall_verdict(summary)}\n{page}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/hacking"))
