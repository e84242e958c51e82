"""A newcomer's adapter from a mix of their neighbours' adapters, against from nothing.

python benchmarks/newcomers.py outputs/newcomers

Sixteen of the world's people get adapters, all in one company. Four others rate 20 images of the base model and are introduced to the
same reward; their neighbours are those whose predicted ratings of base images go with theirs most. A mix is the mean of the
neighbours' weight changes, cut back to the rank by an SVD. True rating of held-out prompts after 0, 2 and 5 iterations, the base's noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from sixty import Rated, base_images, held_out, rated_images
from torch import Tensor

from pamela_rl.config import RewardSettings, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import add_adapter, load_adapter_folder, remove_adapter, save_adapter, unload
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.mixing import mix_adapters
from pamela_rl.diffusion.policy import Policy
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.training.neighbours import nearest
from pamela_rl.training.people import People, personalize_users
from pamela_rl.training.personalize import Provenance, personalize
from pamela_rl.world.algorithm_settings import open_tuned_algorithm
from pamela_rl.world.captions import world_prompts
from pamela_rl.world.fitted_rewards import fit_reward
from pamela_rl.world.judge import ContentJudge, Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters
from pamela_rl.world.ratings import make_ratings

NEIGHBOURS, NEWCOMERS = range(0, 156, 10), (160, 170, 180, 190)
NUM_RATINGS, NUM_COMPARED = 20, 200
CONFIG = TrainConfig(
    num_iterations=10, images_per_iteration=32, group_size=8, batch_size=32, checkpoint_every=10,
    reward=RewardSettings(std_weight=1.0, adherence_weight=2.0), validation=ValidationSettings(every=0),
)  # fmt: skip


def published(policy: Policy, state: Mapping[str, Tensor], folder: Path) -> Path:
    """Save weights as an adapter, to start from."""
    add_adapter(policy, "mix", CONFIG.lora, 0)
    policy.adapters["mix"].load(state)
    saved = save_adapter(policy, "mix", "mix", folder, {}, {})
    remove_adapter(policy, "mix")
    return saved


def gained(policy: Policy, adapter: Path | None, user: str) -> tuple[float, float]:
    """Return true rating gained over the base, and faithfulness, on held-out prompts."""
    (asked, seeds), content = held_out(4), ContentJudge.load()
    truth, faithful = TrueRating(make_raters(), content), Faithfulness(content)
    base = images = base_images(4)
    if adapter is not None:
        load_adapter_folder(policy.pipeline, adapter, "own")
        images = PipelineGenerator(policy.pipeline, "own")(asked, seeds)
        unload(policy)
    before, after = (truth(drawn, asked, [user] * len(asked)).mean.mean() for drawn in (base, images))
    return float(after - before), float(faithful(images, asked, [user] * len(asked)).mean.mean())


def main() -> None:
    """Train neighbours, then newcomers from nothing and from mixes of one and three of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    raters, content, policy = make_raters(), ContentJudge.load(), policy_for(load_pipeline("world"))
    ratings = make_ratings(raters, content, num_images=1500)
    reward = fit_reward(ratings, raters, FeatureEncoder.load(WORLD_ENCODER))[0]
    known = [raters.user_ids[number] for number in NEIGHBOURS]
    prompts, algorithm, accelerator = (
        world_prompts(),
        open_tuned_algorithm("nft", "world"),
        Accelerator(cpu=True),
    )
    personalize_users(
        People(
            policy, reward, prompts.prompts, known, CONFIG, algorithm, given.folder / "known", accelerator,
            Provenance("world", "many ratings"), {}, together=len(known), validation=prompts.validation,
        )
    )  # fmt: skip
    for number in NEWCOMERS:
        user, rated = raters.user_ids[number], Rated.first(number, NUM_RATINGS)
        introduced = reward.introduce(user, rated.images, rated.prompts, rated.ratings.tolist())
        images, asked, _ = rated_images(NUM_COMPARED)
        scores = introduced.ratings_by(images, asked, [user, *known])
        near = nearest(user, known, scores)
        states = [
            load_file(str(given.folder / "known" / "users" / who / "checkpoint" / "adapter.safetensors"))
            for who in near
        ]
        for arm, count in (("nothing", 0), ("nearest", 1), ("three", 3)):
            folder = given.folder / user / arm
            state = mix_adapters(states[:count], [1 / count] * count) if count else None
            start = None if state is None else published(policy, state, folder)
            for length in (0, 2, 5):
                adapter = start
                if length:
                    config = TrainConfig(**{**vars(CONFIG), "num_iterations": length})
                    source, run = world_prompts(user), folder / str(length)
                    adapter = personalize(policy, introduced, source, config, algorithm, run, accelerator, start=start)
                rating, faithful = gained(policy, adapter, user)
                row = {
                    "user": user,
                    "arm": arm,
                    "iterations": length,
                    "gained": round(rating, 3),
                    "faithful": round(faithful, 3),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
