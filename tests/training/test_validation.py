from __future__ import annotations

import json
import math
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
from pamela_rl.training.validation import weakest_as_good
from pamela_rl.types import RewardOutput, Scorer, Verdict

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


class Dark:
    """A judge who likes images the better the darker they are; counts how often it was asked to validate."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        self.asked += len(images) == CONFIG.validation.num_images
        return Verdict(-images.mean(dim=(1, 2, 3)))


STRENGTHS_OF = replace(CONFIG, num_iterations=2, validation=ValidationSettings(2, 4, strengths=[1.0, 0.001, 0.5]))


def finish(small_policy: Policy, config: TrainConfig, folder: Path, accelerator: Accelerator, judge: Scorer) -> str:
    return train(
        small_policy, darkness, PROMPTS, config, DDPO(learning_rate=2e-2), folder, accelerator, {"judge": judge}
    )


def test_the_finished_adapter_is_sampled_once_at_every_strength(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    judge = Dark()
    name = finish(small_policy, STRENGTHS_OF, tmp_path, accelerator, judge)
    assert judge.asked == 2 + 3
    written = (tmp_path / "strengths.json").read_bytes()
    rows = {row.pop("strength"): row for row in json.loads(written)["rows"]}
    assert list(rows) == [1.0, 0.001, 0.5]
    first, last = read_metrics(tmp_path / "validation.jsonl")
    for measure in ("eval/judge_mean", "eval/reward_mean", "eval/diversity", "eval/kl_to_reference"):
        assert rows[1.0][measure] == pytest.approx(last[measure], rel=1e-4, abs=1e-7)
        assert rows[0.001][measure] == pytest.approx(first[measure], abs=1e-3)
    assert 0 < rows[0.5]["eval/kl_to_reference"] < rows[1.0]["eval/kl_to_reference"]
    assert small_policy.adapters[name].strength == 1.0
    remove_adapter(small_policy, name)

    finish(small_policy, STRENGTHS_OF, tmp_path, accelerator, judge)
    assert judge.asked == 2 + 3
    assert (tmp_path / "strengths.json").read_bytes() == written


def test_an_adapter_that_was_trained_on_is_sampled_anew_at_every_strength(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    judge = Dark()
    remove_adapter(small_policy, finish(small_policy, STRENGTHS_OF, tmp_path, accelerator, judge))
    before = json.loads((tmp_path / "strengths.json").read_text())
    finish(small_policy, replace(STRENGTHS_OF, num_iterations=4), tmp_path, accelerator, judge)
    after = json.loads((tmp_path / "strengths.json").read_text())
    last = read_metrics(tmp_path / "validation.jsonl")[-1]
    assert after["rows"][0]["eval/judge_mean"] == pytest.approx(last["eval/judge_mean"], rel=1e-4)
    assert after["rows"][0] != before["rows"][0]


def test_without_a_judge_strengths_are_measured_and_none_is_recommended(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    short = replace(STRENGTHS_OF, num_iterations=1, validation=ValidationSettings(0, 4, strengths=[0.5]))
    run(small_policy, short, tmp_path, accelerator, None)
    facts = json.loads((tmp_path / "strengths.json").read_text())
    assert [row["strength"] for row in facts["rows"]] == [0.5]
    assert "recommended" not in facts
    run(small_policy, replace(short, validation=ValidationSettings(0, 4)), tmp_path / "none", accelerator, None)
    assert not (tmp_path / "none" / "strengths.json").exists()


@pytest.mark.parametrize(
    ("judged", "weakest"),
    [
        ({1.0: [3.0, 3, 3, 3], 0.5: [3.0, 3, 3, 3]}, 0.5),
        ({1.0: [3.0, 3, 3, 3], 0.5: [2.9, 2.9, 2.9, 2.9]}, 1.0),  # every image is worse, however little
        # losses -.2, 0, 0, .4: the mean is .05, the standard error .13
        ({1.0: [3.0, 3, 3, 3], 0.5: [3.2, 3, 3, 2.6]}, 0.5),
        # losses 0, 0, 1, 1: the mean is .5, the standard deviation .58, but the standard error .29
        ({1.0: [3.0, 3, 3, 3], 0.5: [3.0, 3, 2, 2]}, 1.0),
        ({0.25: [1.0, 1, 1, 1], 0.5: [2.0, 2, 2, 2.1], 1.0: [2.0, 2, 2, 2]}, 0.5),  # less can be better
        ({0.25: [1.0, 1, 1, 1.1], 1.0: [2.0, 2, 2, 2]}, 1.0),
        ({0.5: [math.nan, 2, 2, 2.0], 1.0: [9.0, 2, 2, 2]}, 0.5),  # where one has no score, neither counts
    ],
)
def test_the_weakest_that_is_as_good_is_within_a_standard_error_of_the_best(
    judged: dict[float, list[float]], weakest: float
) -> None:
    assert weakest_as_good({strength: torch.tensor(scores) for strength, scores in judged.items()}) == weakest


def test_strengths_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"validation.strengths is \[0.5, 0.0\]; use positive numbers"):
        ValidationSettings(strengths=[0.5, 0.0])
