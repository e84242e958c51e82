"""Adapters for people of your own: any base model diffusers loads, any reward that recipes/fit_reward.py fitted.

accelerate launch --config_file accelerate_config.yaml recipes/train.py --config recipes/configs/train_sd15.yaml \
    --reward outputs/my-reward/rewards/taste_basis --users '[ada]' --prompts prompts.txt
python recipes/evaluate.py --run outputs/mine --base_model stable-diffusion-v1-5/stable-diffusion-v1-5 ...
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import DistributedType
from algorithm_source import AlgorithmChoice, open_algorithm
from command_line import new_accelerator, run
from run_source import WORLD, open_pipeline, open_scorers

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.loading import ModelSettings, prepare_policy
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.pixels import NAME as PIXELS
from pamela_rl.training.personalize import Provenance, personalize
from pamela_rl.training.plan import plan_run
from pamela_rl.training.trackers import Tracker
from pamela_rl.world import PIPELINES
from pamela_rl.world.captions import train_and_held_out_prompts
from pamela_rl.world.tuned import TUNED


@dataclass(frozen=True)
class TrainRecipeConfig:
    """The recipe's settings.

    Attributes:
        reward: Folder of a personal reward, e.g. outputs/my-reward/rewards/taste_basis.
        judge: Folder of another one, fitted on other people's ratings of other pictures, only watched.
        output_dir: The run's folder; adapters come into ``adapters/``.
        users: Whom to train for; none means everybody the reward knows.
        prompts: One a line; the world has its own.
        model: The base model.
        encoder: Of the reward: "world", "pixels", an open_clip name or a folder.
        judge_encoder: Of the judge; none means the reward's, and then what it cannot see fools both.
        content: What is watched to tell whether pictures show what was asked: "world", "none", or e.g. "clip_score".
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
    encoder: str = WORLD
    judge_encoder: str | None = None
    content: str = "none"
    watch: list[str] = field(default_factory=list)
    num_inference_steps: int = 20
    trackers: list[Tracker] = field(default_factory=list)
    algorithm: AlgorithmChoice = "ddpo"
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        self.opened().check(self.train)
        if self.prompts is None and self.model.name not in PIPELINES:
            raise ConfigError(
                f"the base model is {self.model.name}, for which no prompts are known; give --prompts FILE."
            )

    def opened(self) -> Algorithm:
        """Make the algorithm; on the world's models, with settings tuned for them where none are given."""
        return open_algorithm(self.algorithm, TUNED.get(self.model.name))


def caution(config: TrainRecipeConfig) -> str:
    """Warn of a reward that is easily fooled where nothing holds the run; empty where there is nothing to warn of."""
    sees_more = config.judge is not None and (config.judge_encoder or config.encoder) != PIXELS
    stops = sees_more and config.train.validation.patience > 0
    if config.encoder != PIXELS or stops or config.opened().kl_target > 0:
        return ""
    return (
        "careful: a reward of pixels sees nothing of what a picture shows, and is easily fooled. Hold the run by "
        "algorithm.kl_target, stop it by train.validation.patience and a --judge with a --judge_encoder of its own, or fit the "
        "reward with an open_clip encoder (docs/algorithms.md, What holds against reward hacking).\n"
    )


def train_people(config: TrainRecipeConfig) -> None:
    """Train and publish one adapter a person."""
    accelerator = new_accelerator(config.output_dir, config.trackers)
    device, in_world = accelerator.device, config.model.name in PIPELINES
    reward, scorers = open_scorers(
        config.reward, config.judge, config.encoder, str(device), config.content, config.watch, in_world,
        config.judge_encoder,
    )  # fmt: skip
    monitors = {name: scorer for name, scorer in scorers.items() if name != "reward"}
    seen, _ = train_and_held_out_prompts()
    prompts = list(PromptSource.from_file(config.prompts, "anybody").prompts) if config.prompts else seen
    model = replace(config.model, shard=config.model.shard or accelerator.distributed_type == DistributedType.FSDP)
    policy = prepare_policy(open_pipeline(model), model, device)
    users = config.users or list(reward.model.user_ids)
    algorithm = config.opened()
    plan = plan_run(policy, config.train, algorithm, accelerator.num_processes)
    accelerator.print(f"For {'each of ' * (len(users) > 1)}{', '.join(users)}:\n{plan.text()}\n{caution(config)}")
    size = f"{policy.height} x {policy.width}"
    how = [name for name in ("detach_unconditional", "compile_blocks") if getattr(model, name)]
    base = " ".join([model.name, size, model.dtype, *how])
    provenance = Provenance(base, f"encoder {reward.encoder.fingerprint}")
    for user in users:
        folder = personalize(
            policy, reward, PromptSource(prompts, user), config.train, algorithm, config.output_dir, accelerator,
            provenance, monitors, config.num_inference_steps,
        )  # fmt: skip
        accelerator.print(f"{user}: {folder}")
    accelerator.end_training()


if __name__ == "__main__":
    run(TrainRecipeConfig, __doc__ or "", train_people)
