"""From nothing to a report: four people of the embedded world, their rewards, their adapters, and what came of it.

accelerate launch --config_file accelerate_config.yaml recipes/quickstart.py --config recipes/configs/quickstart.yaml
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Literal

from accelerate import Accelerator
from algorithm_source import AlgorithmChoice, open_algorithm
from command_line import new_accelerator, run
from run_source import WORLD, open_scorers
from tqdm.auto import tqdm

from pamela_rl.agreement.per_person import LEGEND, format_table
from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import images_spent, load_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.compare import Arm, UserComparison, compare_user, summarize
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.text import summary_table
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import ensure_writable, folder_name, read_metrics, write_text
from pamela_rl.training.personalize import Provenance, personalize, versions
from pamela_rl.training.plan import plan_run
from pamela_rl.training.trackers import Tracker
from pamela_rl.types import Scorer
from pamela_rl.world import ENCODER, PIPELINES, load_judge, load_pipeline
from pamela_rl.world.captions import train_and_held_out_prompts
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.learned import distinct_users, fit_judge, fit_reward, measure, rerate_correlation
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import make_ratings
from pamela_rl.world.tuned import TUNED


@dataclass(frozen=True)
class QuickstartConfig:
    """The quickstart's settings.

    Attributes:
        output_dir: The run's folder.
        num_users: People who get an adapter; the first two are the most opposite of all.
        held_out_prompts: Prompts to compare on, at most 16.
        seeds_per_prompt: Pictures of each prompt and arm.
        num_inference_steps: Denoising steps of the pictures compared.
        model: Of the world's two: a Stable Diffusion pipeline, or its flow-matching twin, a Stable Diffusion 3 pipeline.
        trackers: Where to show the run besides its own record: tensorboard, wandb, trackio.
        algorithm: How adapters learn: a name, or a mapping with a name and settings; what is not given is as tuned for the
            world.
        train: Of each adapter.
    """

    output_dir: Path = Path("outputs/quickstart")
    num_users: int = 4
    held_out_prompts: int = 16
    seeds_per_prompt: int = 2
    num_inference_steps: int = 20
    model: Literal["world", "flow"] = "world"
    trackers: list[Tracker] = field(default_factory=list)
    algorithm: AlgorithmChoice = "ddpo"
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        self.opened().check(self.train)
        if not 2 <= self.num_users <= 20:
            raise ConfigError(f"num_users is {self.num_users}; use 2 to 20, since everyone is compared with another.")
        if not 1 <= self.held_out_prompts <= 16:
            raise ConfigError(f"held_out_prompts is {self.held_out_prompts}; the world has 16: use 1 to 16.")
        if self.seeds_per_prompt < 1:
            raise ConfigError(f"seeds_per_prompt is {self.seeds_per_prompt}; use 1 or more.")
        if self.num_inference_steps < 1:
            raise ConfigError(f"num_inference_steps is {self.num_inference_steps}; use 1 or more, e.g. 20.")

    def opened(self) -> Algorithm:
        """Make the algorithm, with settings tuned for the model where none are given."""
        return open_algorithm(self.algorithm, TUNED[self.model])


@dataclass(frozen=True)
class World:
    """The people to please and everything that scores pictures for them."""

    raters: Raters
    users: list[str]
    reward: PersonalReward
    scorers: dict[str, Scorer]


def fit_rewards(config: QuickstartConfig, raters: Raters, content: ContentJudge, encoder: FeatureEncoder) -> list[str]:
    """Let the world's people rate, fit and save the reward and the judge, and choose whom to please."""
    folder = config.output_dir / "rewards"
    print("1. Two hundred simulated people rate 5,000 pictures; a personal reward learns from 52,500 of their ratings.")
    ratings = make_ratings(raters, content)
    reward, features = fit_reward(ratings, raters, encoder)
    results = measure(reward, features, ratings, raters)
    print(f"\n{indent(LEGEND, '   ')}")
    for split, title in (("test_seen", "known people, new pictures"), ("test_unseen", "new people, 10 ratings shown")):
        table = indent(format_table(results[split]), "   ")
        print(f"\n   {title} ({split}), means over people:\n{table}")
    rerate = rerate_correlation(ratings, raters)
    print(f"\n   When people rate the same picture twice, their two ratings correlate to {rerate:.2f}.")
    users = distinct_users(raters, ratings.expectations, reward.model.user_ids, config.num_users)
    print("\n2. A judge learns from other people and other pictures; no adapter is ever trained against it.")
    reward.save(folder / "personal")
    fit_judge(raters, users, content, encoder).save(folder / "judge")
    agreement = {split: [row.to_json() for row in rows] for split, rows in results.items()}
    facts = {"users": users, "rerate_correlation": rerate, "agreement": agreement}
    write_text(folder / "rewards.json", json.dumps(facts, indent=1) + "\n")
    return users


def prepare(config: QuickstartConfig, accelerator: Accelerator) -> World:
    """Fit the rewards once, in the main process; every process, and a resumed run, loads what was saved."""
    raters, folder = make_raters(), config.output_dir / "rewards"
    if accelerator.is_main_process:
        ensure_writable(config.output_dir)
        if len(_chosen_users(folder)) < config.num_users:
            fit_rewards(config, raters, load_judge(), FeatureEncoder.load(ENCODER))
        else:
            print(f"1. and 2. The rewards fitted earlier are in {folder}.")
    accelerator.wait_for_everyone()
    reward, scorers = open_scorers(
        folder / "personal", folder / "judge", WORLD, str(accelerator.device), content=WORLD, watch=[], in_world=True
    )
    return World(raters, _chosen_users(folder)[: config.num_users], reward, scorers)


def _chosen_users(folder: Path) -> list[str]:
    path = folder / "rewards.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["users"]) if path.exists() else []


def train_adapters(config: QuickstartConfig, world: World, policy: Policy, accelerator: Accelerator) -> None:
    """Train and publish one adapter a person."""
    prompts, _ = train_and_held_out_prompts()
    provenance = Provenance(f"pamela_rl {config.model}", f"taste basis on encoder {world.reward.encoder.fingerprint}")
    monitors = {name: scorer for name, scorer in world.scorers.items() if name != "reward"}
    for user in world.users:
        source = PromptSource(prompts, user)
        personalize(
            policy, world.reward, source, config.train, config.opened(), config.output_dir, accelerator,
            provenance, monitors, config.num_inference_steps,
        )  # fmt: skip


def compare(config: QuickstartConfig, world: World, policy: Policy) -> list[UserComparison]:
    """Draw held-out prompts with the base, with each person's own adapter and with somebody else's."""
    _, held_out = train_and_held_out_prompts()
    prompts = held_out[: config.held_out_prompts]
    for user in world.users:
        load_adapter(policy.pipeline, config.output_dir, user)
    spent = {user: images_spent(config.output_dir, user) for user in world.users}
    comparisons = []
    for row, user in enumerate(tqdm(world.users, desc="comparing", unit="person")):
        other = world.users[(row + 1) % len(world.users)]
        arms = [
            Arm("base", PipelineGenerator(policy.pipeline, None, config.num_inference_steps)),
            Arm("own", PipelineGenerator(policy.pipeline, folder_name(user), config.num_inference_steps), spent[user]),
            Arm(
                "other",
                PipelineGenerator(policy.pipeline, folder_name(other), config.num_inference_steps),
                spent[other],
            ),
        ]
        comparisons.append(compare_user(user, arms, prompts, config.seeds_per_prompt, world.scorers))
    return comparisons


def quickstart(config: QuickstartConfig) -> None:
    """Run the whole job and say where the report is."""
    started = time.monotonic()
    accelerator = new_accelerator(config.output_dir, config.trackers)
    world = prepare(config, accelerator)
    policy = policy_for(load_pipeline(PIPELINES[config.model]))
    policy.pipeline.to(accelerator.device)
    algorithm = config.opened()
    accelerator.print(f"\n3. {algorithm.name} trains an adapter for each of {len(world.users)} people:")
    for user in world.users:
        accelerator.print(f"   {user} likes {world.raters.describe(user)}")
    plan = plan_run(policy, config.train, algorithm, accelerator.num_processes)
    accelerator.print(f"\n{indent(plan.text(), '   ')}\n")
    train_adapters(config, world, policy, accelerator)
    if accelerator.is_main_process:
        print("\n4. Held-out prompts, same noise for all: base, own adapter, somebody else's.")
        comparisons = compare(config, world, policy)
        summary = summarize(comparisons)
        validation = {u: read_metrics(config.output_dir / "users" / folder_name(u) / "validation.jsonl") for u in world.users}
        context = {
            "command": shlex.join(["accelerate", "launch", *sys.argv]),
            "versions": ", ".join(f"{package} {release}" for package, release in versions().items()),
            "seed": str(config.train.seed),
            "seconds": f"{time.monotonic() - started:.0f}",
        }
        tastes = {user: f"likes {world.raters.describe(user)}" for user in world.users}
        report = write_report(
            config.output_dir, Report(summary, comparisons, validation=validation, tastes=tastes, context=context)
        )
        print(f"\n{summary_table(summary)}\n\n{time.monotonic() - started:.0f} seconds. The report: {report}")
    accelerator.end_training()


if __name__ == "__main__":
    run(QuickstartConfig, __doc__ or "", quickstart)
