"""Adapters for people of your own: any base model diffusers loads, any reward that recipes/fit_reward.py fitted.

accelerate launch --config_file accelerate_config.yaml recipes/train.py --config recipes/configs/train_sd15.yaml \
    --reward outputs/my-reward --prompts prompts.txt
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.config import AlgorithmChoice, Tracker, TrainConfig
from pamela_rl.data.prompts import check_prompt_file, read_prompts
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.rewards.hacking import hacking_warning
from pamela_rl.rewards.saved import check_rewards
from pamela_rl.rewards.settings import WORLD
from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.world.algorithm_settings import open_tuned_algorithm


@dataclass(frozen=True)
class TrainRecipeConfig:
    """The recipe's settings.

    Attributes:
        reward: What recipes/fit_reward.py wrote, or the folder of one reward in it.
        judge: Folder of another one, only watched; none means the one fitted beside the reward.
        output_dir: The run's folder; adapters come into ``adapters/``.
        users: Whom to train for; none means everybody the reward knows.
        prompts: One a line; the world has its own.
        model: The base model.
        encoder: Of the reward, where it is elsewhere than when that was fitted.
        judge_encoder: Of the judge, likewise.
        content: What tells whether images show what was asked: "world", its models' default; "none", or e.g. "clip_score".
        watch: Rewards of the average person to be watched, e.g. [pickscore].
        num_inference_steps: Of the sample pictures beside each adapter.
        trackers: Where to show the run besides its own record: tensorboard, wandb, trackio.
        algorithm: How adapters learn: a name, or a mapping with a name and settings.
        train: Of each adapter.
    """

    reward: Path
    judge: Path | None = None
    output_dir: Path = Path("outputs/mine")
    users: list[str] = field(default_factory=list)
    prompts: Path | None = None
    model: ModelSettings = field(default_factory=ModelSettings)
    encoder: str | None = None
    judge_encoder: str | None = None
    content: str | None = None
    watch: list[str] = field(default_factory=list)
    num_inference_steps: int = 20
    trackers: list[Tracker] = field(default_factory=list)
    algorithm: AlgorithmChoice = "nft"
    train: TrainConfig = field(default_factory=lambda: TrainConfig(num_iterations=15))

    def __post_init__(self) -> None:
        check_rewards(self.reward, self.judge, self.users)
        in_world = self.model.name in SHIPPED_PIPELINES
        check_prompt_file(self.prompts, None if in_world else f"the base model is {self.model.name}")
        open_tuned_algorithm(self.algorithm, self.model.name).check(self.train)


def train_users(config: TrainRecipeConfig) -> None:
    """Train and publish one adapter a user."""
    from pamela_rl.rewards.opening import open_scorers
    from pamela_rl.training.next_steps import next_steps
    from pamela_rl.training.personalize import Provenance, personalize_users
    from pamela_rl.training.plan import plan_run
    from pamela_rl.training.processes import new_accelerator, open_policy
    from pamela_rl.world.captions import train_and_held_out_prompts
    from pamela_rl.world.scorers import world_scorers

    accelerator = new_accelerator(config.output_dir, config.trackers)
    in_world, device = config.model.name in SHIPPED_PIPELINES, str(accelerator.device)
    content = config.content or (WORLD if in_world else "none")
    judge = config.judge, config.encoder, config.judge_encoder
    reward, scorers = open_scorers(config.reward, *judge, content, config.watch, device)
    users = config.users or list(reward.model.user_ids)
    scorers |= world_scorers(users if in_world else (), content == WORLD)
    prompts = train_and_held_out_prompts()[0] if config.prompts is None else read_prompts(config.prompts)
    policy = open_policy(config.model, accelerator)
    algorithm = open_tuned_algorithm(config.algorithm, config.model.name)
    plan = plan_run(policy, config.train, algorithm, accelerator.num_processes, list(scorers.values()))
    eyes = reward.encoder.name, getattr(scorers.get("judge"), "encoder_name", None)
    warning = hacking_warning(*eyes, config.train.validation.patience, algorithm.kl_target)
    accelerator.print(f"For {'each of ' * (len(users) > 1)}{', '.join(users)}:\n{plan.text()}\n{warning}")
    adapters = personalize_users(
        policy, reward, prompts, users, config.train, algorithm, config.output_dir, accelerator,
        Provenance.of(config.model, policy, f"encoder {reward.encoder.fingerprint}"), scorers, config.num_inference_steps,
        plan.memory.total,
    )  # fmt: skip
    accelerator.print(next_steps(adapters, config.output_dir, config.reward, config.model, scorers))
    accelerator.end_training()


if __name__ == "__main__":
    run(TrainRecipeConfig, __doc__ or "", train_users)
