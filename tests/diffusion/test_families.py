"""The contract that every family keeps, on a small random model of its own classes read back from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import DPMSolverMultistepScheduler
from learning import learn
from tiny_pipelines import BUILDERS, CALL_OPTIONS, aligned, flux, reloaded, saved
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.learner import AdapterCopy
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import FLOW_NOISES, FlowNoise, LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.diffusion.adapters import add_adapter, save_adapter
from pamela_rl.diffusion.batching import predict_in_batches
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.families.flow_matching import FlowPolicy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.transitions import Normal
from pamela_rl.errors import ConfigError
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import PromptBatch, Trajectory

HEIGHT, WIDTH = 32, 64
ALGORITHM = DDPO(num_updates=1, learning_rate=1e-2, kl_weight=0.0)
PROMPTS = ["a boat", "a lighthouse at dusk, from below", "a boat"]
SEEDS = [3, 4, 5]
# Largest difference to the stock pipeline's own pixels; everything else is equal to the bit. Under guidance these two
# ask for both branches one after the other, ours in one batch; Qwen-Image pads prompts to the longest beside them.
TOLERANCE = {("Flux2KleinPipeline", 3.0): 2e-6, ("QwenImagePipeline", 3.0): 2e-6, ("QwenImagePipeline", 1.0): 5e-7}
Loader = Callable[..., Policy]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: saved(name, root / name) for name in BUILDERS}


@pytest.fixture
def load(folders: dict[str, Path]) -> Loader:
    def fresh(family: str, dtype: torch.dtype = torch.float32) -> Policy:
        policy: Any = policy_for(reloaded(folders[family], dtype), HEIGHT, WIDTH)
        policy.encode_options = CALL_OPTIONS.get(family, {})
        return policy

    return fresh


def batch(prompts: list[str] = PROMPTS) -> PromptBatch:
    ids = torch.arange(len(prompts))
    return PromptBatch(tuple(prompts), ("u",) * len(prompts), ids, ids)


def config(batch_size: int = 3, **sampling: Any) -> TrainConfig:
    steps = {"num_inference_steps": 4, "train_steps": 2, "eta": 0.7}
    return TrainConfig(
        images_per_iteration=4,
        group_size=4,
        batch_size=batch_size,
        sampling=SamplingConfig(**steps | sampling),
        lora=LoraSettings(rank=2, alpha=4),
    )


def trained(policy: Policy, name: str = "ada") -> list[torch.nn.Parameter]:
    weights = add_adapter(policy, name, LoraSettings(rank=2, alpha=4), seed=0)
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.1)
    return weights


def test_there_is_a_contract_for_every_family() -> None:
    assert BUILDERS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_noise_a_rollout_is_the_stock_pipelines_own_picture(
    load: Loader, family: str, guidance_scale: float
) -> None:
    policy = load(family)
    stock = PipelineGenerator(
        policy.pipeline, None, 4, guidance_scale, 1, HEIGHT, WIDTH, options=CALL_OPTIONS.get(family, {})
    )(PROMPTS, SEEDS)
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    quiet = replace(config().sampling, eta=0.0, guidance_scale=guidance_scale)
    ours = rollout(policy, batch(), quiet, seed=0, iteration=0, batch_size=1).images
    assert ours.std() > 0.01
    difference = float((ours - stock).abs().max())
    assert difference <= TOLERANCE.get((family, guidance_scale), 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_ratio_is_exactly_one_before_the_first_update(load: Loader, family: str) -> None:
    policy = load(family)
    weights = trained(policy)
    settings = config(batch_size=3, guidance_scale=3.0)
    drawn = rollout(policy, batch(["a boat", "a tree", "a house by the sea", "a boat"]), settings.sampling, 0, 0, 3)
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    stats = learn(ALGORITHM, Accelerator(cpu=True), policy, optimizer, drawn, torch.ones(4), settings)
    assert stats["train/sampling_mismatch"] == 0.0
    assert stats["train/grad_norm"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_in_half_precision_ratios_stay_far_inside_the_clip_range(load: Loader, family: str) -> None:
    policy = load(family, torch.bfloat16)
    weights = trained(policy)
    settings = config(batch_size=3, guidance_scale=3.0)
    drawn = rollout(policy, batch(["a boat", "a tree", "a house by the sea", "a boat"]), settings.sampling, 0, 0, 3)
    assert drawn.latents.dtype == torch.float32
    optimizer = torch.optim.SGD(weights, lr=0.0)
    stats = learn(ALGORITHM, Accelerator(cpu=True), policy, optimizer, drawn, torch.ones(4), settings)
    assert stats["train/sampling_mismatch"] < ALGORITHM.clip_range / 10


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_weight_of_the_adapter_and_nothing_else(load: Loader, family: str) -> None:
    policy = load(family)
    weights = trained(policy)
    drawn = rollout(policy, batch(), config().sampling, 0, 0, 3)
    told = drawn.conditioning[drawn.prompt_index]
    schedule = policy.schedule(4, 0.7)
    output = policy.predict(drawn.latents[:, 0], schedule.timesteps[drawn.step_index[:, 0]], told, None, 1.0)
    output.square().mean().backward()
    adapter, (weight,) = policy.adapters["ada"], weights
    assert weight.grad is not None
    gradients = weight.grad.split([shape.numel() for shape in adapter.shapes.values()])
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    parts = [part for part in policy.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert not any(p.requires_grad for part in parts for p in part.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_adapter_gives_the_same_pictures_in_a_fresh_pipeline(
    load: Loader, folders: dict[str, Path], family: str, tmp_path: Path
) -> None:
    policy = load(family)
    drawing = (2, 1.0, 3, HEIGHT, WIDTH, "", CALL_OPTIONS.get(family, {}))
    base = PipelineGenerator(policy.pipeline, None, *drawing)(PROMPTS, SEEDS)
    trained(policy)
    folder = save_adapter(policy, "ada", "ada", tmp_path, {"seed": "0"}, {})
    with policy.drawing():
        ours = PipelineGenerator(policy.pipeline, None, *drawing)(PROMPTS, SEEDS)
    fresh = reloaded(folders[family])
    fresh.load_lora_weights(folder, adapter_name="hers")
    aligned(fresh)
    assert torch.equal(PipelineGenerator(fresh, "hers", *drawing)(PROMPTS, SEEDS), ours)
    assert not torch.equal(ours, base)
    assert torch.allclose(PipelineGenerator(fresh, None, *drawing)(PROMPTS, SEEDS), base, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_raises_the_log_probability_of_rewarded_samples(load: Loader, family: str) -> None:
    policy = load(family)
    weights = trained(policy)
    settings = config()
    loose = DDPO(num_updates=1, clip_range=0.9, kl_weight=0.0, max_grad_norm=100)
    drawn = rollout(policy, batch(["a boat"] * 4), settings.sampling, 0, 0, 3)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    before = log_probs(policy, drawn)
    assert torch.equal(before, drawn.log_probs)
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    learn(loose, Accelerator(cpu=True), policy, optimizer, drawn, advantages, settings)
    change = (log_probs(policy, drawn) - before).mean(dim=1)
    assert float((change * advantages).mean()) > 1e-6


@torch.no_grad()
def log_probs(policy: Policy, drawn: Trajectory) -> Tensor:
    """Of the steps that were drawn, under the policy as it is now, ``(b, t)``; in calls of three as in the rollout."""
    schedule, told = policy.schedule(4, 0.7), drawn.conditioning[drawn.prompt_index]
    columns = []
    for slot in range(drawn.step_index.shape[1]):
        step, latents = drawn.step_index[:, slot], drawn.latents[:, slot]
        output = predict_in_batches(policy, latents, schedule.timesteps[step], told, None, 1.0, 3)
        columns.append(schedule.transition(output, latents, step).log_prob(drawn.next_latents[:, slot]))
    return torch.stack(columns, dim=1)


def test_prompts_are_encoded_once_and_each_by_itself(load: Loader) -> None:
    policy = load("StableDiffusion3Pipeline")
    own, seen = policy.pipeline.encode_prompt, []

    def counting(prompt: str, *arguments: Any, **options: Any) -> Any:
        seen.append(prompt)
        return own(prompt, *arguments, **options)

    policy.pipeline.encode_prompt = counting
    first, second = policy.encode(["a boat", "a tree", "a boat"]), policy.encode(["a tree"])
    assert seen == ["a boat", "a tree"]
    assert torch.equal(first.tensors["prompt_embeds"][1:2], second.tensors["prompt_embeds"])
    assert torch.equal(first.tensors["prompt_embeds"][0], first.tensors["prompt_embeds"][2])


def test_prompts_of_any_length_are_padded_and_masked(load: Loader) -> None:
    policy = load("QwenImagePipeline")
    both = policy.encode(["a boat", "a lighthouse at dusk, from below"])
    lengths = both.tensors["mask"].sum(dim=1).tolist()
    assert lengths[0] < lengths[1] == both.tensors["prompt_embeds"].shape[1]
    assert both.tensors["prompt_embeds"][0, lengths[0] :].abs().max() == 0
    latents = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in (0, 1)])
    time = torch.full((2,), 700.0)
    together = policy.predict(latents, time, both, None, 1.0)
    alone = policy.predict(latents[:1], time[:1], policy.encode(["a boat"]), None, 1.0)
    torch.testing.assert_close(together[:1], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"])
def test_a_negative_prompt_is_the_pipelines_own(load: Loader, family: str) -> None:
    policy = load(family)
    drawing = PipelineGenerator(policy.pipeline, None, 3, 4.0, 1, HEIGHT, WIDTH, "fog")
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    quiet = SamplingConfig(num_inference_steps=3, eta=0.0, guidance_scale=4.0, negative_prompt="fog", train_steps=1)
    ours = rollout(policy, batch(), quiet, 0, 0, 1).images
    assert torch.allclose(ours, drawing(PROMPTS, SEEDS), atol=1e-6, rtol=0)
    other = rollout(policy, batch(), replace(quiet, negative_prompt="rain"), 0, 0, 1).images
    assert (ours - other).abs().max() > 1e-3


def test_flux_without_distilled_guidance_is_guided_by_two_branches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flux(guidance_embeds=False).save_pretrained(tmp_path)
    policy = policy_for(reloaded(tmp_path), HEIGHT, WIDTH)
    stock = PipelineGenerator(policy.pipeline, None, 3, 4.0, 1, HEIGHT, WIDTH, "fog")(PROMPTS, SEEDS)
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    quiet = SamplingConfig(num_inference_steps=3, eta=0.0, guidance_scale=4.0, negative_prompt="fog", train_steps=1)
    assert torch.allclose(rollout(policy, batch(), quiet, 0, 0, 1).images, stock, atol=2e-6, rtol=0)


def test_a_detached_unconditional_branch_changes_gradients_but_not_predictions(load: Loader) -> None:
    policy = load("StableDiffusion3Pipeline")
    weights = trained(policy)
    latents = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in (0, 1)])
    told, negative = policy.encode(["a boat", "a tree"]), policy.encode_negative("fog", 3.0)
    norms, outputs = [], []
    for detached in (False, True):
        policy.detach_unconditional = detached
        output = policy.predict(latents, torch.full((2,), 500.0), told, negative, 3.0)
        norms.append(sum(float(g.square().sum()) for g in torch.autograd.grad(output.square().mean(), weights)))
        outputs.append(output.detach())
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-6, rtol=0)
    assert abs(norms[0] - norms[1]) > 1e-3 * norms[0]


def test_a_window_of_noisy_steps_is_all_that_is_trained(load: Loader) -> None:
    for family in ("StableDiffusionPipeline", "FluxPipeline"):
        policy = load(family)
        drawn = [
            rollout(policy, batch(), replace(config().sampling, window_start=1, window_size=2), seed, 0, 3)
            for seed in (0, 1)
        ]
        assert all(trajectory.step_index.tolist() == [[1, 2]] * 3 for trajectory in drawn)
        assert all(trajectory.log_probs.isfinite().all() for trajectory in drawn)


def test_sanas_usual_solver_keeps_its_noise_levels(folders: dict[str, Path]) -> None:
    pipeline = reloaded(folders["SanaPipeline"])
    solver = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipeline.register_modules(scheduler=solver)
    solver.set_timesteps(20)
    ours = policy_for(pipeline, HEIGHT, WIDTH).schedule(20, 0.5).sigmas
    torch.testing.assert_close(ours, solver.sigmas, atol=1e-5, rtol=0)


def test_densities_are_summed_in_calls_of_the_same_shape_as_the_denoiser_is_called(load: Loader) -> None:
    policy, seen = load("StableDiffusionPipeline"), []
    own = Normal.log_prob

    def noting(self: Normal, latents: Tensor) -> Tensor:
        seen.append(len(latents))
        return own(self, latents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Normal, "log_prob", noting)
        rollout(policy, batch(), config().sampling, 0, 0, 2)
    assert set(seen) == {2}


def test_a_family_nobody_knows_gets_a_sentence_that_lists_those_there_are() -> None:
    class KandinskyPipeline:
        pass

    with pytest.raises(ConfigError, match=r"no model family for KandinskyPipeline; there are .*Flux2Pipeline, .*Sana"):
        policy_for(KandinskyPipeline())


@pytest.mark.parametrize(("family", "multiple"), [("StableDiffusionPipeline", 2), ("FluxPipeline", 4)])
def test_a_size_that_does_not_divide_is_refused_with_the_nearest_that_do(
    folders: dict[str, Path], family: str, multiple: int
) -> None:
    below, above = 32, 32 + multiple
    with pytest.raises(ConfigError, match=f"height is 33; .* multiples of {multiple} pixels: use {below} or {above}"):
        policy_for(reloaded(folders[family]), 33, WIDTH)


@pytest.mark.parametrize(("noise", "own"), [("flow_sde", 0.7), ("cps", 0.8), ("dance", 0.3)])
def test_where_noise_is_left_open_the_papers_own_is_taken(load: Loader, noise: FlowNoise, own: float) -> None:
    policy = load("StableDiffusion3Pipeline")
    assert policy.schedule(4, None, noise).eta.tolist() == pytest.approx([own] * 4)
    assert policy.schedule(4, 0.1, noise).eta.tolist() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize(
    "algorithm",
    [GRPO(guard=True), NFT(kl_weight=0.1), DRaFT(num_steps=2, kl_weight=0.1)],
    ids=lambda algorithm: algorithm.name,
)
@pytest.mark.parametrize("family", ["StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline"])
def test_every_algorithm_learns_from_latents_of_every_shape(load: Loader, family: str, algorithm: Algorithm) -> None:
    policy = load(family)
    weights = trained(policy)
    before = [weight.detach().clone() for weight in weights]
    settings = config(batch_size=3, guidance_scale=3.0)
    asked = batch(["a boat", "a tree", "a house by the sea", "a boat"])
    sampling = algorithm.sampling(settings, 0)
    drawn = rollout(policy, asked, sampling, 0, 0, 3, algorithm.kept_steps, algorithm.keeps_means)
    optimizer = torch.optim.SGD(weights, lr=1e-2)
    stats = learn(
        algorithm, Accelerator(cpu=True), policy, optimizer, drawn, torch.tensor([1.0, -1, 1, -1]), settings,
        AdapterCopy(policy.adapter),
    )  # fmt: skip
    assert stats["train/grad_norm"] > 0
    assert stats["train/skipped_updates"] == 0
    assert all(np.isfinite(value) for value in stats.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, weights, strict=True))


FLOW_FAMILIES = [name for name, family in FAMILIES.items() if issubclass(family, FlowPolicy)]


@pytest.mark.parametrize("noise", FLOW_NOISES)
@pytest.mark.parametrize("family", FLOW_FAMILIES)
def test_every_kind_of_noise_is_bounded_at_the_familys_own_levels(load: Loader, family: str, noise: FlowNoise) -> None:
    policy = load(family)
    schedule = policy.schedule(10, None, noise)
    latents = policy.initial_latents([torch.Generator()])
    first = schedule.transition(torch.zeros_like(latents), latents, torch.tensor([0]))
    assert float(first.std.max()) <= (float(schedule.eta[0]) if noise == "flow_sde" else 1.0) + 1e-6
    sampling = SamplingConfig(flow_noise=noise, train_steps=2)
    drawn = rollout(policy, batch(), sampling, 0, 0, 3)
    quiet = rollout(policy, batch(), replace(sampling, eta=0.0), 0, 0, 3)
    assert drawn.log_probs.isfinite().all()
    assert 0.4 < float(drawn.final_latents.std() / quiet.final_latents.std()) < 2.5
