"""From nothing to a report: four people of the embedded world, their rewards, their adapters, and what came of it.

accelerate launch --config_file accelerate_config.yaml recipes/quickstart.py --config recipes/configs/quickstart.yaml
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from command_line import run
from tqdm.auto import tqdm

from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import load_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.generators import PipelineGenerator
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.compare import Arm, UserComparison, compare_user, summarize
from pamela_rl.evaluation.figures import contact_sheet, to_png
from pamela_rl.evaluation.report import write_report
from pamela_rl.evaluation.text import summary_table
from pamela_rl.rewards.agreement import format_table
from pamela_rl.rewards.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import ensure_writable, folder_name
from pamela_rl.tracking import read_metrics
from pamela_rl.train import train
from pamela_rl.types import Reward
from pamela_rl.world import ENCODER, load_judge, load_pipeline
from pamela_rl.world.captions import train_and_held_out_prompts
from pamela_rl.world.judge import Faithfulness
from pamela_rl.world.learned import distinct_users, fit_judge, fit_reward, measure, rerate_correlation
from pamela_rl.world.raters import Raters, TrueRating, make_raters
from pamela_rl.world.ratings import make_ratings


@dataclass(frozen=True)
class QuickstartConfig:
    """The quickstart's settings.

    Attributes:
        output_dir: The run's folder.
        num_users: People who get an adapter; the first two are the most opposite of all.
        held_out_prompts: Prompts to compare on, at most 16.
        seeds_per_prompt: Pictures of each prompt and arm.
        num_inference_steps: Denoising steps of the pictures compared.
        train: Of each adapter.
    """

    output_dir: Path = Path("outputs/quickstart")
    num_users: int = 4
    held_out_prompts: int = 16
    seeds_per_prompt: int = 2
    num_inference_steps: int = 20
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not 2 <= self.num_users <= 20:
            raise ConfigError(f"num_users is {self.num_users}; use 2 to 20, since everyone is compared with another.")
        if not 1 <= self.held_out_prompts <= 16:
            raise ConfigError(f"held_out_prompts is {self.held_out_prompts}; the world has 16: use 1 to 16.")
        if self.seeds_per_prompt < 1:
            raise ConfigError(f"seeds_per_prompt is {self.seeds_per_prompt}; use 1 or more.")


@dataclass(frozen=True)
class World:
    """What the quickstart has learned of the world before it trains."""

    raters: Raters
    users: list[str]
    reward: PersonalReward
    scorers: dict[str, Reward]


def learn_rewards(config: QuickstartConfig) -> World:
    """Let the world's people rate, fit the reward and the judge, and choose whom to please."""
    content, raters = load_judge(), make_raters()
    print("1. Two hundred simulated people rate 5,000 pictures; a personal reward learns from 52,500 of the ratings.")
    encoder = FeatureEncoder.load(ENCODER)
    ratings = make_ratings(raters, content)
    reward, features = fit_reward(ratings, raters, encoder)
    results = measure(reward, features, ratings, raters)
    for split, title in (("test_seen", "known people, new pictures"), ("test_unseen", "new people, 10 ratings shown")):
        print(f"\n   {title} ({split}), correlation person by person:\n{format_table(results[split])}")
    print(f"\n   People agree with themselves to {rerate_correlation(ratings, raters):.2f} when they rate twice.")
    users = distinct_users(raters, ratings.expectations, reward.basis.user_ids, config.num_users)
    print("\n2. A judge learns from other people and other pictures; no adapter is ever trained against it.")
    judge = fit_judge(raters, users, content, encoder)
    scorers: dict[str, Reward] = {
        "reward": reward,
        "judge": judge,
        "true_rating": TrueRating(raters, content),
        "faithfulness": Faithfulness(content),
    }
    return World(raters, users, reward, scorers)


def train_adapters(
    config: QuickstartConfig, world: World, policy: StableDiffusionPolicy, accelerator: Accelerator
) -> None:
    """Train one adapter a person, save each, and leave the base model as it was."""
    prompts, _ = train_and_held_out_prompts()
    for user in world.users:
        folder = config.output_dir / "users" / folder_name(user)
        name = train(
            policy,
            world.reward,
            PromptSource(prompts, user),
            config.train,
            folder,
            accelerator,
            monitors={k: v for k, v in world.scorers.items() if k != "reward"},
            facts={"base_model": "world", "encoder": world.reward.encoder.fingerprint},
        )
        if accelerator.is_main_process:
            generator = PipelineGenerator(policy, name, config.num_inference_steps)
            wanted = prompts[:8]
            samples = to_png(contact_sheet(generator(wanted, list(range(8))), columns=4))
            info = {
                "base_model": "pamela_rl world",
                "reward": f"taste basis on encoder {world.reward.encoder.fingerprint}",
                "recipe": f"DDPO, {config.train.num_iterations} iterations x {config.train.images_per_iteration} images",
                "seed": str(config.train.seed),
                "pamela_rl": version("pamela_rl"),
                "diffusers": version("diffusers"),
                "peft": version("peft"),
                "torch": torch.__version__,
            }
            save_adapter(policy, name, user, config.output_dir, info, {"samples.png": samples})
        accelerator.wait_for_everyone()
        remove_adapter(policy, name)


def compare(config: QuickstartConfig, world: World, policy: StableDiffusionPolicy) -> list[UserComparison]:
    """Draw held-out prompts with the base, with each person's own adapter and with somebody else's."""
    _, held_out = train_and_held_out_prompts()
    prompts = held_out[: config.held_out_prompts]
    seeds = [10_000 + seed for seed in range(config.seeds_per_prompt)]
    spent = config.train.num_iterations * config.train.images_per_iteration
    for user in world.users:
        load_adapter(policy.pipeline, config.output_dir, user)
    comparisons = []
    for row, user in enumerate(tqdm(world.users, desc="comparing", unit="person")):
        other = world.users[(row + 1) % len(world.users)]
        arms = [
            Arm("base", PipelineGenerator(policy, None, config.num_inference_steps)),
            Arm("own", PipelineGenerator(policy, folder_name(user), config.num_inference_steps), spent),
            Arm("other", PipelineGenerator(policy, folder_name(other), config.num_inference_steps), spent),
        ]
        comparisons.append(compare_user(user, arms, prompts, seeds, world.scorers))
    return comparisons


def quickstart(config: QuickstartConfig) -> Path:
    """Run the whole job and return the report's path."""
    started = time.monotonic()
    ensure_writable(config.output_dir)
    accelerator = Accelerator()
    world = learn_rewards(config)
    policy = policy_for(load_pipeline())
    policy.pipeline.to(accelerator.device)
    print(f"\n3. DDPO trains an adapter for each of {len(world.users)} people:")
    for user in world.users:
        print(f"   {user} likes {world.raters.describe(user)}")
    train_adapters(config, world, policy, accelerator)
    print("\n4. Held-out prompts, same noise for all: base, own adapter, somebody else's.")
    comparisons = compare(config, world, policy)
    summary = summarize(comparisons)
    curves = {u: read_metrics(config.output_dir / "users" / folder_name(u) / "metrics.jsonl") for u in world.users}
    context = {
        "command": shlex.join(["accelerate", "launch", *sys.argv]),
        "versions": ", ".join(f"{p} {version(p)}" for p in ("pamela_rl", "torch", "diffusers", "peft", "accelerate")),
        "seed": str(config.train.seed),
        "seconds": f"{time.monotonic() - started:.0f}",
    }
    tastes = {user: world.raters.describe(user) for user in world.users}
    report = write_report(config.output_dir, summary, comparisons, curves, tastes, context)
    print(f"\n{summary_table(summary)}\n\n{time.monotonic() - started:.0f} seconds. The report: {report}")
    return report


if __name__ == "__main__":
    run(QuickstartConfig, __doc__ or "", quickstart)
