from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from rated_examples import dark_and_bright, prompts_of, rated
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm, LearnsFrom
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.dpo import DPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import AdvantageSettings, LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import CheckpointError, ConfigError, DataError
from pamela_rl.storage import read_metrics
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.experience import check_source
from pamela_rl.training.loop import train
from pamela_rl.types import Reward, RewardOutput

IMAGES = dark_and_bright(4)
PROMPTS = ["a boat", "a tree", "a boat", "a house"]
NAN = math.nan
KINDS: tuple[LearnsFrom, ...] = ("images", "pairs")
CONFIG = TrainConfig(
    num_iterations=1,
    images_per_iteration=4,
    group_size=2,
    batch_size=4,
    sampling=SamplingConfig(4, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=0),
)


def of(ratings: Sequence[float], choices: list[list[int]] | None = None) -> RatedExamples:
    pairs = None if choices is None else torch.tensor(choices)
    return RatedExamples.of("ada", IMAGES, PROMPTS, torch.tensor(ratings, dtype=torch.float64), pairs)


def test_any_two_images_of_different_ratings_are_a_pair() -> None:
    examples = of([3, 1, 3, NAN])
    assert examples.pairs.tolist() == [[0, 1], [2, 1]]
    assert examples.ratings[:3].tolist() == [3, 1, 3]


def test_choices_are_the_pairs_where_they_are_given_whatever_the_ratings_say() -> None:
    examples = of([3, 1, 3, NAN], [[1, 0], [3, 2]])
    assert examples.pairs.tolist() == [[1, 0], [3, 2]]
    assert examples.ratings[:3].tolist() == [3, 1, 3]


def test_without_ratings_wins_less_losses_take_their_place() -> None:
    examples = of([NAN] * 4, [[0, 1], [0, 2], [2, 1], [0, 1]])
    assert examples.ratings.tolist() == [3, -3, 0, 0]


@pytest.mark.parametrize("ratings", [[2, 2, 2, 2], [NAN, 4, NAN, NAN], [NAN] * 4])
def test_images_of_which_none_is_liked_better_than_another_are_refused(ratings: list[float]) -> None:
    with pytest.raises(DataError, match=r"none of ada's 4 images is liked better than another; rate some lower"):
        of(ratings)


def test_every_image_comes_once_an_epoch_and_epochs_differ() -> None:
    examples, config = rated(count=12), replace(CONFIG, images_per_iteration=4)
    rows = [
        examples._rows(iteration, "images", config)  # the images themselves may be equal
        for iteration in range(12)
    ]
    epochs = [torch.cat(rows[first : first + 3]) for first in range(0, 12, 3)]
    assert all(epoch.sort().values.tolist() == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4
    assert not torch.equal(rows[0], examples._rows(0, "images", replace(config, seed=1)))
    across = [examples._rows(iteration, "images", replace(config, images_per_iteration=8)) for iteration in range(3)]
    assert torch.equal(torch.cat(across), torch.cat(epochs[:2]))  # an iteration may lie in two epochs


def test_every_pair_comes_once_an_epoch_and_its_images_are_neighbours_in_a_group() -> None:
    examples = of([4, 1, 2, 3])
    assert len(examples.pairs) == 6
    drawn = [examples.draw(iteration, "pairs", CONFIG) for iteration in range(3)]
    assert all(batch.group_ids.tolist() == [0, 0, 1, 1] for batch in drawn)
    assert all(batch.image_ids.tolist() == [0, 1, 2, 3] for batch in drawn)
    rows = torch.cat([examples._rows(iteration, "pairs", CONFIG) for iteration in range(3)])
    assert sorted(rows.view(-1, 2).tolist()) == sorted(examples.pairs.tolist())
    assert [prompt for batch in drawn for prompt in batch.prompts] == [PROMPTS[row] for row in rows]
    assert {batch.user_ids for batch in drawn} == {("ada",) * 4}


def test_what_is_recalled_are_the_drawn_images_with_ratings_in_standard_deviations(small_policy: Policy) -> None:
    examples = of([5, 1, NAN, 3])
    batch = examples.draw(2, "images", CONFIG)
    trajectory, ratings, advantages = examples.recall(small_policy, batch, 2, "images", CONFIG)
    rows = examples._rows(2, "images", CONFIG)
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    assert torch.equal(trajectory.images, IMAGES[rows])
    torch.testing.assert_close(trajectory.final_latents, small_policy.encode_images(IMAGES[rows]), atol=1e-5, rtol=0)
    # of 5, 1, 3 and, for the one that was not rated, their mean 3: two from the mean, and a variance of two
    torch.testing.assert_close(advantages, torch.tensor([2.0, -2, 0, 0])[rows] / 2**0.5)
    torch.testing.assert_close(ratings, torch.tensor([5.0, 1, 3, 3])[rows])  # NaN would count as a bad reward
    told = trajectory.conditioning[trajectory.prompt_index].tensors["prompt_embeds"]
    theirs = small_policy.encode([PROMPTS[row] for row in rows]).tensors["prompt_embeds"]
    assert torch.equal(told, theirs)
    assert len(trajectory.conditioning) == len(set(PROMPTS)) == 3
    assert trajectory.latents.shape == (4, 0, *trajectory.final_latents.shape[1:])
    assert trajectory.negative is None


def test_a_rating_far_from_the_mean_is_cut_off_and_a_control_has_no_advantages(small_policy: Policy) -> None:
    examples = RatedExamples.of(
        "ada", IMAGES[:1].expand(50, -1, -1, -1), ["a boat"] * 50, torch.tensor([9.0, *[1.0] * 49]).double()
    )
    config = replace(CONFIG, images_per_iteration=50)
    batch = examples.draw(0, "images", config)
    advantages = examples.recall(small_policy, batch, 0, "images", config)[2]
    assert advantages.max() == 5  # seven standard deviations, at most five
    for kind in KINDS:
        control = replace(config, advantages=AdvantageSettings(zero=True))
        batch = examples.draw(0, kind, control)
        assert not examples.recall(small_policy, batch, 0, kind, control)[2].any()


def test_of_a_pair_the_preferred_image_has_one_and_the_other_minus_one(small_policy: Policy) -> None:
    examples = of([4, 1, 2, 3])
    _, ratings, advantages = examples.recall(small_policy, examples.draw(1, "pairs", CONFIG), 1, "pairs", CONFIG)
    assert advantages.tolist() == [1, -1, 1, -1]
    assert ratings[0] > ratings[1]
    assert ratings[2] > ratings[3]


def test_a_process_recalls_its_own_part_of_the_whole(small_policy: Policy) -> None:
    examples = rated(count=8)
    config = replace(CONFIG, images_per_iteration=8)
    for kind in KINDS:
        whole = examples.draw(0, kind, config)
        everything = examples.recall(small_policy, whole, 0, kind, config)
        mine = torch.tensor([2, 3, 6, 7])
        part = examples.recall(small_policy, whole[mine], 0, kind, config)
        assert torch.equal(part[0].final_latents, everything[0].final_latents[mine])
        assert torch.equal(part[0].image_ids, mine)
        assert torch.equal(part[2], everything[2][mine])


def test_latents_are_those_of_the_policy_that_asks(small_policy: Policy, policy: Policy) -> None:
    examples, batch, vae = rated(count=4), rated(count=4).draw(0, "images", CONFIG), policy.pipeline.vae
    vae.register_to_config(scaling_factor=2 * vae.config.scaling_factor)
    first, other, again = (
        examples.recall(asking, batch, 0, "images", CONFIG)[0].final_latents
        for asking in (small_policy, policy, small_policy)
    )
    torch.testing.assert_close(other, 2 * first)
    assert torch.equal(again, first)


@pytest.mark.parametrize("change", ["a rating", "a prompt", "a pixel", "a pair"])
def test_other_examples_are_another_run(change: str) -> None:
    images, ratings, prompts = IMAGES.clone(), torch.tensor([4.0, 1, 2, 3], dtype=torch.float64), list(PROMPTS)
    pairs = torch.tensor([[0, 1], [3, 2]])
    before = RatedExamples.of("ada", images, prompts, ratings, pairs).fingerprint
    assert RatedExamples.of("ada", images.clone(), list(prompts), ratings.clone(), pairs).fingerprint == before
    if change == "a rating":
        ratings[2] = 2.5
    elif change == "a prompt":
        prompts[0] = "a goat"
    elif change == "a pixel":
        images[3, 0, 0, 0] += 1e-3
    else:
        pairs = torch.tensor([[0, 1], [2, 3]])
    assert RatedExamples.of("ada", images, prompts, ratings, pairs).fingerprint != before


def test_prompts_are_each_listed_once() -> None:
    assert prompts_of(of([4, 1, 2, 3])).prompts == ("a boat", "a tree", "a house")


@pytest.mark.parametrize(
    ("algorithm", "reward", "examples", "sentence"),
    [
        (NFT(), None, None, r"nft learns from a reward's scores, but there is no reward; fit one and give it"),
        (NFT(), None, rated(), r"nft learns from a reward's scores, but there is no reward"),
        (SFT(), None, None, r"sft learns from images that the person rated, but there are none; give them as source"),
        (DPO(), darkness, None, r"dpo learns from images that the person rated, but there are none"),
    ],
)
def test_an_algorithm_without_what_it_learns_from_is_refused_before_anything_is_written(
    algorithm: Algorithm,
    reward: Reward | None,
    examples: RatedExamples | None,
    sentence: str,
    small_policy: Policy,
    accelerator: Accelerator,
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_source(algorithm, reward, examples, TrainConfig(), 1)
    with pytest.raises(ConfigError, match=sentence):
        train(
            small_policy, reward, prompts_of(rated()), CONFIG, algorithm, tmp_path / "run", accelerator,
            examples=examples,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_what_an_algorithm_learns_from_is_enough() -> None:
    check_source(NFT(), darkness, None, TrainConfig(), 1)
    check_source(SFT(), None, rated(), TrainConfig(), 1)
    check_source(DPO(), darkness, rated(), TrainConfig(), 1)
    with pytest.raises(ConfigError, match="use a multiple of 64"):
        check_source(DPO(), darkness, rated(), TrainConfig(), 32)


@pytest.mark.parametrize("algorithm", [SFT(), DPO()], ids=lambda algorithm: algorithm.name)
def test_a_reward_is_only_watched_and_no_image_is_sampled(
    algorithm: Algorithm, small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    seen = []

    def noting(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        seen.append(len(images))
        return darkness(images, prompts, user_ids)

    examples, twice = rated(), replace(CONFIG, num_iterations=2, validation=ValidationSettings(every=2, num_images=6))
    train(small_policy, noting, prompts_of(examples), twice, algorithm, tmp_path, accelerator, examples=examples)
    assert seen == [6, 6]  # of the two validations
    rows = read_metrics(tmp_path / "metrics.jsonl")
    ratings = [
        float(examples.ratings[examples._rows(iteration, algorithm.learns_from, twice)].mean()) for iteration in (0, 1)
    ]
    assert [row["rollout/reward_mean"] for row in rows] == pytest.approx(ratings)  # of the images, not of a reward


def test_an_algorithm_that_samples_does_so_whether_there_are_examples_or_not(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    seen: list[float] = []

    def noting(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        output = darkness(images, prompts, user_ids)
        seen.append(float(output.mean.mean()))
        return output

    source = prompts_of(rated())
    train(small_policy, noting, source, CONFIG, DDPO(), tmp_path, accelerator, examples=rated())
    assert [row["rollout/reward_mean"] for row in read_metrics(tmp_path / "metrics.jsonl")] == pytest.approx(seen)
    assert len(seen) == 1


def test_a_run_does_not_go_on_with_other_ratings(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    source, twice = prompts_of(rated()), replace(CONFIG, num_iterations=2)
    train(small_policy, None, source, CONFIG, SFT(), tmp_path, accelerator, examples=rated())
    with pytest.raises(CheckpointError, match=r"examples: there '[0-9a-f]{16}', here '[0-9a-f]{16}'"):
        train(small_policy, None, source, twice, SFT(), tmp_path, accelerator, examples=rated(liked=4.5))


def test_an_image_known_by_choices_alone_counts_as_the_mean_and_not_as_a_bad_reward(small_policy: Policy) -> None:
    examples = of([5, 1, NAN, NAN], [[0, 1], [2, 3]])
    for kind in KINDS:
        batch = examples.draw(0, kind, CONFIG)
        _, ratings, _ = examples.recall(small_policy, batch, 0, kind, CONFIG)
        assert sorted(ratings.tolist()) == [1, 3, 3, 5]
