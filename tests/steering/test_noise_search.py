from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi
from tiny_pipelines import reloaded, saved
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.data.ratings import RatingScale
from pamela_rl.diffusion.adapters import add_adapter, load_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures
from pamela_rl.steering.noise_search import NoiseSearch, norm_log_density
from pamela_rl.steering.settings import NoiseSearchSettings
from pamela_rl.types import RewardOutput, Verdict

PROMPTS, SEEDS = ["a boat", "a tree, on the left", "a house"], [4, 9, 0]
SHORT = {"num_inference_steps": 3, "num_steps": 1}


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(-10 * images.mean(dim=(1, 2, 3)))


def search(
    policy: StableDiffusionPolicy,
    reward: Any = darkness,
    adapter: str | None = None,
    guidance: tuple[float, str] = (1.0, ""),
    **changes: Any,
) -> Any:
    config = NoiseSearchSettings(**{**SHORT, **changes})
    return NoiseSearch(policy, adapter, reward, "ada", config, RatingScale(0, 1), *guidance)


def stock(policy: StableDiffusionPolicy, guidance: tuple[float, str] = (1.0, "")) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    drawn: Tensor = policy.pipeline(
        PROMPTS, num_inference_steps=3, guidance_scale=guidance[0], negative_prompt=[guidance[1]] * len(PROMPTS),
        generator=generators, output_type="pt",
    ).images  # fmt: skip
    return drawn


@pytest.fixture
def personal_reward(encoder: FeatureEncoder) -> PersonalReward:
    """One person's taste over the world's encoder; nothing was fitted."""
    dim = encoder.encode(torch.zeros(1, 3, 64, 64), ["a boat"]).shape[1]
    network = TasteFeatures(dim, 2, hidden_dim=8, num_layers=1).eval().requires_grad_(False)
    prior = (torch.zeros(3, 1, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    noise = Noise(torch.ones(1, dtype=torch.float64), misfit=0.1, log_mean=0.0, log_std=1.0, floor=0.1)
    means = torch.tensor([[0.0, 3.0, -3.0]], dtype=torch.float64)
    covariance = torch.eye(3, dtype=torch.float64)[None]
    return PersonalReward(
        encoder, TasteBasis(network, DemographicsCoding.of(None), *prior, noise, ("ada",), means, covariance)
    )


@pytest.mark.parametrize("guidance", [(1.0, ""), (3.0, ""), (3.0, "at night")])
def test_without_a_step_the_pictures_are_the_pipelines_own(
    policy: StableDiffusionPolicy, guidance: tuple[float, str]
) -> None:
    ours = search(policy, num_steps=0, guidance=guidance)(PROMPTS, SEEDS)
    torch.testing.assert_close(ours, stock(policy, guidance), atol=2e-5, rtol=0)


def test_the_search_pleases_the_person_more(policy: StableDiffusionPolicy, personal_reward: PersonalReward) -> None:
    searching = search(policy, personal_reward, num_steps=3)
    found = searching(PROMPTS, SEEDS)
    before, after = (personal_reward(images, PROMPTS, ["ada"] * 3).mean for images in (stock(policy), found))
    assert (after >= before - 1e-5).all()
    assert float((after - before).mean()) > 0.1
    assert searching.images_spent == 12


def test_the_direction_is_the_slope_of_the_reward_through_the_whole_chain(policy: StableDiffusionPolicy) -> None:
    searching = search(policy, norm_weight=0.02, max_grad_norm=1e9)
    conditioning = policy.encode(["a boat"])
    noise = policy.initial_latents([torch.Generator().manual_seed(4)])

    def objective(at: Tensor) -> Tensor:
        return darkness(searching._draw(at, conditioning, None), ["a boat"], ["ada"]).mean

    start = noise.clone().requires_grad_()
    direction = searching._ascent_gradient(start, objective(start))
    step = 0.05 * direction / direction.norm()
    with torch.no_grad():
        rise = objective(noise + step) - objective(noise - step)
        rise = rise + 0.02 * (norm_log_density(noise + step) - norm_log_density(noise - step))
    assert float(rise / 0.1) == pytest.approx(float(direction.norm()), rel=0.05)
    searching = search(policy, max_grad_norm=0.01)
    start = noise.clone().requires_grad_()
    clipped = searching._ascent_gradient(start, objective(start))
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-4)


def test_the_ascent_is_the_same_on_every_scale(policy: StableDiffusionPolicy) -> None:
    noise = policy.initial_latents([torch.Generator().manual_seed(4)])
    directions = []
    for scale in (RatingScale(0, 1), RatingScale(0, 100)):
        start = noise.clone().requires_grad_()
        searching = NoiseSearch(policy, None, darkness, "ada", NoiseSearchSettings(max_grad_norm=1e9), scale)
        directions.append(searching._ascent_gradient(start, scale.high * start.flatten(1).mean(dim=1)))
    torch.testing.assert_close(*directions)


def test_packed_latents_of_flow_models_are_searched_too(tmp_path: Path) -> None:
    policy = policy_for(reloaded(saved("FluxPipeline", tmp_path)), 32, 64)
    searching = NoiseSearch(policy, None, darkness, "ada", NoiseSearchSettings(**{**SHORT, "num_steps": 2}))
    found = searching(PROMPTS, SEEDS)
    plain = NoiseSearch(policy, None, darkness, "ada", NoiseSearchSettings(**{**SHORT, "num_steps": 0}))(PROMPTS, SEEDS)
    assert found.shape == (3, 3, 32, 64)
    rise = darkness(found, PROMPTS, []).mean - darkness(plain, PROMPTS, []).mean
    assert (rise >= 0).all()
    assert float(rise.mean()) > 1e-3


def test_the_norm_term_is_the_density_of_a_normals_norm() -> None:
    noise = torch.randn(6, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.8, 1.2, 6).view(
        -1, 1, 1, 1
    )
    ours = norm_log_density(noise).double()
    theirs = torch.from_numpy(chi.logpdf(noise.flatten(1).norm(dim=1).numpy(), df=512))
    torch.testing.assert_close(ours - ours[0], theirs - theirs[0], atol=0.02, rtol=1e-3)


def test_a_picture_is_searched_for_by_itself(policy: StableDiffusionPolicy) -> None:
    together = search(policy)(PROMPTS, SEEDS)
    alone = search(policy)(PROMPTS[1:2], SEEDS[1:2])
    torch.testing.assert_close(together[1], alone[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(together, search(policy, batch_size=2)(PROMPTS, SEEDS), atol=1e-3, rtol=0)


def test_the_best_on_the_way_is_kept_however_far_the_ascent_overshoots(policy: StableDiffusionPolicy) -> None:
    start = stock(policy)
    wish = start.mean(dim=(1, 2, 3)) - 0.01  # hardly darker: whoever runs on is far off

    def nearness(images: Tensor, *_: Sequence[str]) -> RewardOutput:
        return RewardOutput(-1e3 * (images.mean(dim=(1, 2, 3)) - wish).square())

    wild = search(policy, nearness, learning_rate=1e4)(PROMPTS, SEEDS)
    assert (nearness(wild).mean >= nearness(start).mean - 1e-4).all()


def test_a_reward_that_is_no_number_leaves_its_picture_where_it_was(policy: StableDiffusionPolicy) -> None:
    def unsure(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        broken = torch.tensor([float("nan") if prompt == PROMPTS[1] else 1.0 for prompt in prompts])
        return RewardOutput(darkness(images, prompts, user_ids).mean * broken)

    found, start = search(policy, unsure, num_steps=1)(PROMPTS, SEEDS), stock(policy)
    torch.testing.assert_close(found[1], start[1], atol=2e-5, rtol=0)
    assert (found[[0, 2]].mean(dim=(1, 2, 3)) < start[[0, 2]].mean(dim=(1, 2, 3))).all()


def test_an_adapter_is_drawn_with_when_named_and_off_when_not_and_gets_no_gradient(
    policy: StableDiffusionPolicy, tmp_path: Path
) -> None:
    base = stock(policy)
    torch.nn.init.normal_(add_adapter(policy, "someone", LoraSettings(rank=2), seed=0)[0], std=0.3)
    save_adapter(policy, "someone", "someone", tmp_path, {}, {})
    remove_adapter(policy, "someone")
    load_adapter(policy.pipeline, tmp_path, "someone")
    weights = [weight for name, weight in policy.denoiser.named_parameters() if "lora" in name]
    adapted = stock(policy)
    assert (base - adapted).abs().max() > 0.01
    still = {"num_steps": 0}
    torch.testing.assert_close(search(policy, **still)(PROMPTS, SEEDS), base, atol=2e-5, rtol=0)
    torch.testing.assert_close(search(policy, adapter="someone", **still)(PROMPTS, SEEDS), adapted, atol=2e-5, rtol=0)
    search(policy, adapter="someone", num_steps=1)(PROMPTS[:1], SEEDS[:1])
    assert all(weight.grad is None for weight in weights)


def test_what_cannot_be_searched_by_is_refused(policy: StableDiffusionPolicy) -> None:
    blind = search(policy, lambda images, *_: RewardOutput(images.detach().mean(dim=(1, 2, 3))))
    with pytest.raises(ConfigError, match=r"no gradient to the pixels.*use best-of-N"):
        blind(PROMPTS[:1], SEEDS[:1])
    with pytest.raises(ConfigError, match="is a judge"):
        search(policy, lambda images, *_: Verdict(images.mean(dim=(1, 2, 3))))(PROMPTS[:1], SEEDS[:1])
    with pytest.raises(ConfigError, match="num_steps of the noise search is -1; use 0 or more"):
        NoiseSearchSettings(num_steps=-1)
    with pytest.raises(ConfigError, match="learning_rate of the noise search is 0"):
        NoiseSearchSettings(learning_rate=0)
    with pytest.raises(ConfigError, match="momentum of the noise search is 1"):
        NoiseSearchSettings(momentum=1)
