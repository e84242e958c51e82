"""Settings of a training for people of one's own; checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pamela_rl.config import AlgorithmChoice, RewardSettings, Tracker, TrainConfig, ValidationSettings
from pamela_rl.config.checks import refuse_unused
from pamela_rl.data.prompts import PromptSource, check_prompt_file, read_prompts
from pamela_rl.data.settings import SourceSettings
from pamela_rl.diffusion.saved_adapters import adapter_file, starting_adapter
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.choice import RewardChoice, check_choice, check_named, personal_folder
from pamela_rl.rewards.saved import judge_folder
from pamela_rl.rewards.settings import WORLD
from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.world.algorithm_settings import open_tuned_algorithm

STRENGTHS = (0.5, 0.75, 1.0, 1.25)


def for_few_ratings() -> TrainConfig:
    """Return the settings that were chosen for rewards of few ratings (docs/log.md)."""
    return TrainConfig(
        num_iterations=15,
        reward=RewardSettings(std_weight=1.0, adherence_weight=2.0),
        validation=ValidationSettings(strengths=list(STRENGTHS)),
    )


@dataclass(frozen=True)
class TrainSettings:
    """What to train, for whom, on what.

    Attributes:
        reward: What pamela fit wrote, or the folder of one reward in it; the name of a reward of the average person,
            e.g. pickscore; a Python file with a function ``reward``; or several of these with weights, by name, e.g.
            {mine: {folder: outputs/my-reward}, pickscore: {weight: 0.5}}. Algorithms that learn from rated images need none;
            a personal one that is given is watched.
        judge: Folder of another one, only watched; none means the one fitted beside the reward.
        source: Where people's rated images are, for algorithms that learn from these: sft and dpo.
        start: A finished run whose adapters are trained on, each user's own, or one adapter for all: its folder or its
            .safetensors file, of any program, for the same base model; none starts from the base model.
        neighbours: Begin the adapter of a user who joins a finished run as a mix of the adapters of those whose taste is
            nearest; else from the base model.
        output_dir: The run's folder; adapters come into ``adapters/``.
        users: Whom to train for; "all" is everybody the reward knows, or who rated.
        together: People who are trained at the same time, on one base model and in the same calls; "auto" is as many as there
            is memory for. Each of them learns as if alone.
        ray: Let a Ray cluster's cards work through the users: its address, or "auto" for the one that runs here, else a new
            one on this machine. ``output_dir`` must be a folder that all of its machines share.
        prompts: One a line, of which every fifth is only validated on (train.validation.prompts), or a .jsonl file of objects with a
            prompt and what else a reward of one's own may want to know of it; the world has its own. Algorithms that learn from
            rated images train on those of the images, and only validate on these.
        model: The base model.
        encoder: Of the reward, where it is elsewhere than when that was fitted.
        judge_encoder: Of the judge, likewise.
        content: What tells whether images show what was asked: "world", its models' default; "none", or e.g. "clip_score".
        watch: Rewards that are only watched: of the average person, e.g. [pickscore], or Python files.
        batch_size: "auto" chooses train.batch_size and train.sampling_batch_size: the largest calls that memory holds. None
            leaves them as they are.
        num_inference_steps: Of the sample pictures beside each adapter, and of validation unless train.validation says otherwise:
            as many as the adapter will be used with.
        trackers: Where to show the run besides its own record: tensorboard, wandb, trackio.
        algorithm: How adapters learn: a name, or a mapping with a name and settings.
        train: Of each adapter.
    """

    reward: RewardChoice | None = None
    judge: Path | None = None
    source: SourceSettings = field(default_factory=SourceSettings)
    start: Path | None = None
    neighbours: bool = True
    output_dir: Path = Path("outputs/mine")
    users: list[str] | Literal["all"] = "all"
    together: int | Literal["auto"] = 1
    ray: str | None = None
    prompts: Path | None = None
    model: ModelSettings = field(default_factory=ModelSettings)
    encoder: str | None = None
    judge_encoder: str | None = None
    content: str | None = None
    watch: list[str] = field(default_factory=list)
    batch_size: Literal["auto"] | None = None
    num_inference_steps: int = 20
    trackers: list[Tracker] = field(default_factory=list)
    algorithm: AlgorithmChoice = "nft"
    train: TrainConfig = field(default_factory=for_few_ratings)

    def __post_init__(self) -> None:
        if self.reward is not None:  # first, since nothing heavy is loaded for it
            check_choice(self.reward, self.judge, self.named)
            folder = personal_folder(self.reward)
            if folder is None:
                refuse_unused(self, ("encoder", "judge_encoder"), "no part of the reward is personal")
            elif self.judge is None and judge_folder(folder) is None:
                refuse_unused(self, ("judge_encoder",), "there is no judge")
        else:
            refuse_unused(
                self, ("judge", "encoder", "judge_encoder", "watch"), "there is no reward that they would go with"
            )
        if self.content == WORLD and self.model.name not in SHIPPED_PIPELINES:
            refuse_unused(self, ("content",), f"the base model is {self.model.name}")
        for name in self.watch:
            check_named(name)
        algorithm = open_tuned_algorithm(self.algorithm, self.model.name)
        if not algorithm.uses_advantages:
            weights = ("adherence_weight", "diversity_weight")
            because = f"{algorithm.name} learns without advantages"
            refuse_unused(self.train.reward, weights, because, for_few_ratings().reward, "train.reward.")
        if algorithm.learns_from == "rollouts":
            self._check_rollouts(algorithm.name)
        else:
            self._check_examples(algorithm.name)
        if self.start is not None and not self.start.exists():
            raise ConfigError(f"start is {self.start}, but there is no such run, adapter or file.")
        for start in self.starts(self.named).values():
            adapter_file(start)
        if self.together != "auto" and self.together < 1:
            raise ConfigError(f"together is {self.together}; use 1 or more people at a time, or auto.")
        algorithm.check(self.train)

    @property
    def named(self) -> list[str]:
        """Users who are asked for by name; none of them means everybody."""
        return [] if self.users == "all" else list(self.users)

    def starts(self, users: list[str]) -> Mapping[str, Path]:
        """Return the adapter that each user's training goes on from.

        Raises:
            AdapterError: The run it starts from has none of a user.
        """
        return {} if self.start is None else {user: starting_adapter(self.start, user) for user in users}

    def _check_rollouts(self, name: str) -> None:
        if self.reward is None:
            raise ConfigError(
                f"{name} learns from a reward, but reward is not given; fit one with pamela fit, or train on the "
                "rated images themselves with --config algorithms/sft.yaml."
            )
        refuse_unused(self, ("source",), f"{name} learns from the reward alone, unlike sft and dpo")
        in_world = self.model.name in SHIPPED_PIPELINES
        check_prompt_file(self.prompts, None if in_world else f"the base model is {self.model.name}")
        if self.prompts is not None:
            PromptSource(read_prompts(self.prompts), "").held_out(self.train.validation)

    def _check_examples(self, name: str) -> None:
        if self.source.path is None:
            raise ConfigError(
                f"{name} learns from images that people rated, but there are none; give their folder as --source.path."
            )
        if self.train.validation.patience and self.reward is None:
            raise ConfigError(
                "train.validation.patience needs a judge; give the reward it was fitted beside, or set it to 0."
            )
        check_prompt_file(self.prompts, None)
        check_prompt_file(self.train.validation.prompts, None)
        if self.prompts is not None and self.train.validation.prompts is not None:
            raise ConfigError(
                f"{name} trains on the prompts of the rated images, so prompts and train.validation.prompts would both only be "
                "validated on; leave one of them out."
            )
        if self.reward is not None and personal_folder(self.reward) is None:
            raise ConfigError(
                f"{name} learns from rated images, and what is watched beside it is a personal reward; give its folder as "
                "reward, and others as watch."
            )
        self.source.check_paths()
