from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pamela_rl.errors import ConfigError, UnknownUserError
from pamela_rl.rewards.baselines.transformer import (
    PreferenceNetwork,
    PreferenceTransformer,
    TransformerShape,
    encode_demographics,
)
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.world.ratings import WorldRatings

PROMPTS = ["a boat", "a tree, on the left", "a house", "a cactus"]
USERS = ["rater-000", "rater-007", "rater-000", "rater-100"]


@pytest.fixture
def images(world_ratings: WorldRatings) -> Tensor:
    return world_ratings.images[:4].clone()


def test_a_reward_that_was_saved_gives_the_same_scores(
    world_reward: PersonalReward, images: Tensor, tmp_path: Path
) -> None:
    world_reward.save(tmp_path / "reward")
    again = PersonalReward.load(tmp_path / "reward", world_reward.encoder)
    before, after = world_reward(images, PROMPTS, USERS), again(images, PROMPTS, USERS)
    # to rounding: a product of matrices depends on where in memory they lie
    torch.testing.assert_close(before.mean, after.mean, rtol=1e-12, atol=1e-12)
    assert before.std is not None
    assert after.std is not None
    torch.testing.assert_close(before.std, after.std, rtol=1e-12, atol=1e-12)
    assert again.fitted_on == world_reward.fitted_on
    first, second = taste_basis(world_reward), taste_basis(again)
    assert (first.user_ids, first.coding) == (second.user_ids, second.coding)
    assert torch.equal(first.noise_std(USERS), second.noise_std(USERS))
    for ours, theirs in zip(*(basis.prior({"age": 33, "region": "north"}).means for basis in (first, second))):
        assert torch.equal(ours, theirs)


def taste_basis(reward: PersonalReward) -> TasteBasis:
    assert isinstance(reward.model, TasteBasis)
    return reward.model


def test_a_transformer_is_saved_like_any_model(encoder: FeatureEncoder, images: Tensor, tmp_path: Path) -> None:
    coding = DemographicsCoding({"age": (30.0, 5.0)}, {"region": ("north", "south")})
    dim = encoder.encode(images[:1], PROMPTS[:1]).shape[1]
    shape = TransformerShape(dim, 1, (2,), width=8, num_layers=1, num_heads=2)
    network = PreferenceNetwork(shape).eval().requires_grad_(False)
    demographics = torch.stack([encode_demographics(coding, who) for who in ({"age": 33, "region": "north"}, None)])
    reward = PersonalReward(encoder, PreferenceTransformer(network, coding, ("ada", "ben"), demographics, 0.7))
    reward.save(tmp_path)
    again = PersonalReward.load(tmp_path, encoder)
    users = ["ada", "ben", "ben", "ada"]
    before, after = reward(images, PROMPTS, users), again(images, PROMPTS, users)
    torch.testing.assert_close(before.mean, after.mean, rtol=1e-6, atol=1e-6)
    assert before.std is after.std is None
    assert isinstance(again.model, PreferenceTransformer)
    assert again.model.noise == 0.7
    assert again.fitted_on == FittedOn()


def test_what_it_was_fitted_on_comes_back_from_plain_json(world_reward: PersonalReward) -> None:
    config = FittedOn(frozenset({"007", 'ä "b"\n'}), frozenset({"x", "y"}), 3)
    assert FittedOn.from_json(json.loads(json.dumps(config.to_json()))) == config
    fitted_on = world_reward.fitted_on
    assert fitted_on.users == set(world_reward.model.user_ids)
    assert (len(fitted_on.images), fitted_on.seed) == (420 + 72, 0)  # those of training and of val_seen


def test_a_save_that_was_killed_between_its_two_renames_is_undone(world_reward: PersonalReward, tmp_path: Path) -> None:
    folder = tmp_path / "reward"
    world_reward.save(folder)
    folder.rename(tmp_path / ".reward.previous")
    again = PersonalReward.load(folder, world_reward.encoder)
    assert again.fitted_on == world_reward.fitted_on
    assert folder.is_dir()


def test_a_model_of_a_kind_that_is_not_known_is_refused(world_reward: PersonalReward, tmp_path: Path) -> None:
    world_reward.save(tmp_path)
    config = json.loads((tmp_path / "reward.json").read_text(encoding="utf-8"))
    (tmp_path / "reward.json").write_text(json.dumps({**config, "kind": "oracle"}), encoding="utf-8")
    sentence = r"is of kind 'oracle'; this version knows TasteBasis, RidgePerUser"
    with pytest.raises(ConfigError, match=sentence):
        PersonalReward.load(tmp_path, world_reward.encoder)


def test_strange_ids_survive_saving(world_reward: PersonalReward, tmp_path: Path) -> None:
    basis = taste_basis(world_reward)
    for user in ("007", "NA", 'ä "quoted"\n'):
        basis = basis.with_user(user, basis.posterior("rater-000"))
    PersonalReward(world_reward.encoder, basis).save(tmp_path)
    assert PersonalReward.load(tmp_path, world_reward.encoder).model.user_ids == basis.user_ids


def test_a_reward_of_another_encoders_features_is_refused(
    world_reward: PersonalReward, encoder: FeatureEncoder, tmp_path: Path
) -> None:
    world_reward.save(tmp_path)
    other = FeatureEncoder(encoder.model, None, [0.5] * 3, [0.25] * 3, "another")
    with pytest.raises(
        ConfigError, match=f"features of encoder {encoder.fingerprint}, not of another; give the encoder"
    ):
        PersonalReward.load(tmp_path, other)


@pytest.mark.parametrize("damage", ["absent", "no weights", "weights cut short", "broken facts"])
def test_a_reward_that_cannot_be_read_is_named(world_reward: PersonalReward, damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "reward"
    if damage != "absent":
        world_reward.save(folder)
    weights = folder / "reward.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "broken facts":
        (folder / "reward.json").write_text('{"kind": "taste', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no personal reward can be read from .*reward \(.*\); fit one first"):
        PersonalReward.load(folder, world_reward.encoder)


def test_the_facts_beside_the_weights_are_plain_json(world_reward: PersonalReward, tmp_path: Path) -> None:
    world_reward.save(tmp_path)
    config = json.loads((tmp_path / "reward.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert config["encoder"] == world_reward.encoder.fingerprint
    assert config["kind"] == "TasteBasis"
    assert len(config["model"]["user_ids"]) == len(config["fitted_on"]["users"]) == 156
    assert set(config["model"]["noise"]) == {"misfit", "log_mean", "log_std", "floor"}


def test_gradients_of_every_score_reach_its_own_pixels(world_reward: PersonalReward, images: Tensor) -> None:
    images.requires_grad_()
    output = world_reward(images, PROMPTS, USERS)
    assert output.std is not None
    for part in (output.mean, output.std):
        (gradient,) = torch.autograd.grad(part[1], images, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient[1].abs().max() > 1e-6
        assert gradient[[0, 2, 3]].abs().max() == 0


def test_a_step_up_the_gradient_raises_the_score(world_reward: PersonalReward, images: Tensor) -> None:
    images.requires_grad_()
    before = world_reward(images, PROMPTS, USERS).mean
    (gradient,) = torch.autograd.grad(before.sum(), images)
    step = 0.05 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    after = world_reward(images.detach() + step, PROMPTS, USERS).mean
    assert (after > before).all()


def test_a_picture_is_scored_alone_as_in_a_batch(world_reward: PersonalReward, images: Tensor) -> None:
    together = world_reward(images, PROMPTS, USERS).mean
    for row in range(4):
        alone = world_reward(images[row : row + 1], PROMPTS[row : row + 1], USERS[row : row + 1]).mean
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=0)


def test_an_unknown_user_is_answered_with_one_plain_sentence(world_reward: PersonalReward, images: Tensor) -> None:
    sentence = (
        r"^the reward does not know user 'eve'; it knows 156 people \(rater-000, rater-001, rater-002, …\)\. Show"
    )
    with pytest.raises(UnknownUserError, match=sentence):
        world_reward(images, PROMPTS, [*USERS[:3], "eve"])
