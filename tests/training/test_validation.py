from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny_pipelines import stable_diffusion_3
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import AdvantageSettings, FlowNoise, LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, remove_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError
from pamela_rl.storage import read_metrics
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput, Verdict

CONFIG = TrainConfig(
    num_iterations=6,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=4, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=2, num_images=4),
)
ALGORITHM = DDPO(learning_rate=3e-3, clip_range=1e-3, kl_weight=0.1)
PROMPTS = PromptSource(["a boat", "a tree", "a house"], "ada")


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(-images.mean(dim=(1, 2, 3)), torch.ones(len(images)))


class Script:
    """A judge that says what it is told to, look after look; what it is shown of training's own pictures it ignores."""

    def __init__(self, *verdicts: float) -> None:
        self.verdicts, self.seen = list(verdicts), []

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        if len(images) != CONFIG.validation.num_images:
            return Verdict(torch.zeros(len(images)))
        self.seen.append(images)
        return Verdict(torch.full((len(images),), self.verdicts[len(self.seen) - 1]))


def run(
    small_policy: Policy, config: TrainConfig, folder: Path, accelerator: Accelerator, judge: Script | None
) -> dict[str, Tensor]:
    monitors = {} if judge is None else {"judge": judge}
    name = train(small_policy, darkness, PROMPTS, config, ALGORITHM, folder, accelerator, monitors)
    state = adapter_state(small_policy, name)
    remove_adapter(small_policy, name)
    return state


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_pictures_are_drawn_at_every_look_and_the_first_is_the_base(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    judge = Script(1, 2, 3, 4)
    run(small_policy, CONFIG, tmp_path, accelerator, judge)
    rows = read_metrics(tmp_path / "validation.jsonl")
    assert [row["iteration"] for row in rows] == [0, 2, 4, 6]
    assert rows[0]["eval/kl_to_reference"] == 0 < rows[-1]["eval/kl_to_reference"]
    assert rows[2]["eval/reward_mean"] == pytest.approx(float(-judge.seen[2].mean()) - 0.5, abs=1e-6)  # less caution
    distances = [float((images - judge.seen[0]).abs().mean()) for images in judge.seen]
    assert distances[0] == 0 < distances[1] < 0.3
    again = Script(0)
    run(
        small_policy,
        replace(CONFIG, num_iterations=1, validation=ValidationSettings(2, 4)),
        tmp_path / "again",
        accelerator,
        again,
    )
    assert torch.equal(again.seen[0], judge.seen[0])


@pytest.mark.parametrize("noise", ["cps", "dance"])
def test_pictures_of_looks_do_not_depend_on_the_noise_that_training_adds(
    noise: FlowNoise, accelerator: Accelerator, tmp_path: Path
) -> None:
    drawn, policy = [], policy_for(stable_diffusion_3())
    for kind in ("flow_sde", noise):
        judge, sampling = Script(1), replace(CONFIG.sampling, flow_noise=kind)
        run(policy, replace(CONFIG, num_iterations=1, sampling=sampling), tmp_path / kind, accelerator, judge)
        drawn.append(judge.seen[0])
    assert torch.equal(*drawn)


def test_while_nothing_is_learned_every_look_is_the_same_to_the_bit(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    judge = Script(1, 1)
    control = replace(CONFIG, num_iterations=2, advantages=AdvantageSettings(zero=True))
    run(small_policy, control, tmp_path, accelerator, judge)
    assert torch.equal(judge.seen[0], judge.seen[1])


@pytest.mark.slow
def test_looking_changes_nothing_about_the_training(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    blind = replace(CONFIG, validation=ValidationSettings(every=0))
    without = run(small_policy, blind, tmp_path / "blind", accelerator, None)
    assert same(run(small_policy, CONFIG, tmp_path / "looking", accelerator, Script(1, 3, 2, 1)), without)
    assert not (tmp_path / "blind" / "best").exists()
    assert read_metrics(tmp_path / "blind" / "validation.jsonl") == []


def test_a_run_stops_when_the_judge_likes_nothing_better_and_gives_back_the_best(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    patient = replace(CONFIG, num_iterations=20, validation=replace(CONFIG.validation, patience=2))
    stopped = run(small_policy, patient, tmp_path / "stopped", accelerator, Script(1, 3, 2, 3))
    assert len(read_metrics(tmp_path / "stopped" / "metrics.jsonl")) == 6
    short = run(small_policy, replace(CONFIG, num_iterations=2), tmp_path / "short", accelerator, Script(1, 3))
    assert same(stopped, short)
    best = load_checkpoint(tmp_path / "stopped" / "best")
    assert best is not None
    assert best.iteration == 2


@pytest.mark.slow
def test_a_stopped_run_stays_stopped_and_goes_on_when_patience_is_given_up(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    patient = replace(CONFIG, validation=replace(CONFIG.validation, patience=1))
    stopped = run(small_policy, patient, tmp_path, accelerator, Script(1, 3, 2))
    assert same(run(small_policy, patient, tmp_path, accelerator, Script()), stopped)
    whole = run(small_policy, CONFIG, tmp_path / "whole", accelerator, Script(1, 3, 2, 1))
    assert same(run(small_policy, CONFIG, tmp_path, accelerator, Script(1)), whole)
    assert [row["iteration"] for row in read_metrics(tmp_path / "validation.jsonl")] == [0, 2, 4, 6]


def test_without_patience_the_last_adapter_is_kept_whatever_the_judge_says(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    last = run(small_policy, CONFIG, tmp_path, accelerator, Script(1, 3, 2, 1))
    checkpoint = load_checkpoint(tmp_path / "checkpoint")
    assert checkpoint is not None
    assert same(last, checkpoint.adapter)


def test_a_judge_who_says_nothing_is_no_improvement(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    patient = replace(CONFIG, num_iterations=20, validation=replace(CONFIG.validation, patience=2))
    nothing = float("nan")
    run(small_policy, patient, tmp_path, accelerator, Script(1, nothing, nothing))
    assert [row["eval/judge_mean"] for row in read_metrics(tmp_path / "validation.jsonl")] == [1, None, None]
    best = load_checkpoint(tmp_path / "best")
    assert best is not None
    assert best.iteration == 0


def test_stopping_by_a_judge_needs_one(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    patient = replace(CONFIG, validation=replace(CONFIG.validation, patience=1))
    with pytest.raises(ConfigError, match=r"validation.patience is 1 but there is no judge to stop by"):
        run(small_policy, patient, tmp_path, accelerator, None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"every": -1}, "validation.every is -1"),
        ({"num_images": 5}, "validation.num_images is 5 but the number of images a prompt is 2"),
        ({"every": 0, "patience": 2}, "there is nothing to stop by"),
    ],
)
def test_looks_that_cannot_work_are_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ValidationSettings(**settings)
