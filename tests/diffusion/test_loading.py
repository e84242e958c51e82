"""What keeps memory small changes nothing that is drawn or learned."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from learning import learn
from safetensors.torch import load_file
from tiny_pipelines import reloaded, saved
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.diffusion import families
from pamela_rl.diffusion.adapter_bank import with_effect
from pamela_rl.diffusion.adapters import WEIGHTS, adapter_state, add_adapter, save_adapter
from pamela_rl.diffusion.compiling import compile_denoiser, repeated_blocks
from pamela_rl.diffusion.loading import DTYPES, load_pipeline, prepare_policy
from pamela_rl.diffusion.memory import PeakMemory, sampling_bytes, update_bytes
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.types import PromptBatch, Trajectory

ALGORITHM = DDPO(num_updates=1, kl_weight=0.0)
CONFIG = TrainConfig(
    images_per_iteration=4,
    group_size=4,
    batch_size=2,
    sampling=SamplingConfig(num_inference_steps=3, train_steps=2, eta=0.7, guidance_scale=3.0),
)
IDS = torch.arange(4)
BATCH = PromptBatch(("a boat", "a tree", "a boat", "a house by the sea"), ("u",) * 4, IDS, IDS)
Maker = Callable[..., Policy]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("StableDiffusion3Pipeline", tmp_path_factory.mktemp("sd3") / "pipeline")


@pytest.fixture
def make(folder: Path) -> Maker:
    def fresh(**settings: Any) -> Policy:
        chosen = ModelSettings(height=32, width=32, **settings)
        policy = prepare_policy(reloaded(folder, DTYPES[chosen.dtype]), chosen, "cpu")
        for weight in add_adapter(policy, "ada", LoraSettings(rank=2), seed=0):
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(weight.numel()))
        return policy

    return fresh


def learned(policy: Policy) -> tuple[Trajectory, torch.Tensor, dict[str, float]]:
    """A rollout, the gradient of an update on it, and its statistics."""
    drawn = rollout(policy, BATCH, CONFIG.sampling, 0, 0, CONFIG.batch_size)
    weights, seen = [policy.adapters["ada"].weights], []
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append(torch.cat([w.grad.flatten() for w in weights])))
    stats = learn(ALGORITHM, Accelerator(cpu=True), policy, optimizer, drawn, torch.tensor([1.0, -1, 1, -1]), CONFIG)
    return drawn, seen[0], stats


@pytest.mark.parametrize("setting", ["gradient_checkpointing", "offload"])
def test_means_to_save_memory_change_no_picture_and_no_gradient(make: Maker, setting: str) -> None:
    plain, thrifty = learned(make()), learned(make(**{setting: True}))
    torch.testing.assert_close(thrifty[0].images, plain[0].images, atol=1e-6, rtol=0)
    torch.testing.assert_close(thrifty[1], plain[1], atol=1e-8, rtol=1e-4)
    assert thrifty[2]["train/sampling_mismatch"] == 0.0


def test_gradient_checkpointing_keeps_less_for_the_backward_pass() -> None:
    plain, thrifty = (  # six blocks, of which one at a time is computed again
        update_bytes(
            prepare_policy(load_pipeline("flow"), ModelSettings(gradient_checkpointing=on), "cpu"),
            CONFIG,
            1,
            False,
            False,
        )
        for on in (False, True)
    )
    assert plain is not None
    assert thrifty is not None
    assert thrifty < plain / 2


def test_idle_parts_leave_the_device_and_come_back_for_the_pipelines_own_call(make: Maker) -> None:
    policy = make(offload=True)
    seen: list[tuple[str, str]] = []

    def noting(name: str) -> Callable[..., Any]:
        module = getattr(policy.pipeline, name)
        own = module.to

        def to(device: Any, *rest: Any) -> Any:
            seen.append((name, str(device)))
            return own(device, *rest)

        return to

    policy.pipeline.register_modules(image_encoder=torch.nn.Linear(1, 1))  # any part that the pipeline's call may need
    for name in ("text_encoder", "text_encoder_3", "vae", "image_encoder"):
        getattr(policy.pipeline, name).to = noting(name)
    policy.encode(["a boat"])
    assert [name for name, _ in seen] == ["text_encoder", "text_encoder_3"] * 2
    seen.clear()
    policy.encode(["a boat"])  # known by now: nobody is woken up
    assert seen == []
    with policy.all_on_device():
        assert {name for name, _ in seen} == {"text_encoder", "text_encoder_3", "vae", "image_encoder"}
        seen.clear()
    assert {name for name, _ in seen} == {"text_encoder", "text_encoder_3", "vae", "image_encoder"}
    seen.clear()
    latents = policy.initial_latents([torch.Generator()]).requires_grad_()
    policy.decode(latents).sum().backward()  # what a gradient passes through stays
    assert len(seen) == 1
    assert latents.grad is not None


def test_a_half_precision_base_has_an_adapter_in_full(make: Maker) -> None:
    policy = make(dtype="bfloat16")
    assert {p.dtype for p in policy.denoiser.parameters()} == {torch.bfloat16}
    assert policy.adapters["ada"].weights.dtype == torch.float32
    drawn, gradient, stats = learned(policy)
    assert drawn.latents.dtype == drawn.log_probs.dtype == gradient.dtype == torch.float32
    assert gradient.abs().max() > 0
    assert stats["train/sampling_mismatch"] < ALGORITHM.clip_range / 10


def test_an_adapter_of_a_half_precision_base_is_published_in_full(make: Maker, folder: Path, tmp_path: Path) -> None:
    policy = make(dtype="bfloat16")
    settings = policy.adapters["ada"].settings
    own = with_effect(adapter_state(policy, "ada"), settings.alpha / settings.rank)
    target = save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    written = load_file(str(target / WEIGHTS))
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
    assert sorted(float(t.sum()) for t in written.values()) == pytest.approx(
        sorted(float(t.sum()) for t in own.values())
    )
    pipeline = reloaded(folder, torch.bfloat16)
    pipeline.load_lora_weights(target)
    assert {p.dtype for name, p in pipeline.transformer.named_parameters() if "lora" in name} == {torch.bfloat16}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler looks, we do not
@pytest.mark.parametrize("what", ["blocks", "full"])
def test_a_compiled_denoiser_draws_and_learns_the_same(make: Maker, what: str) -> None:
    policy = make()
    plain = learned(policy)
    torch._dynamo.reset()
    compile_denoiser(policy, what, backend="aot_eager")
    compiled = learned(policy)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(compiled[0].images, plain[0].images, atol=1e-5, rtol=0)
    torch.testing.assert_close(compiled[1], plain[1], atol=1e-6, rtol=1e-3)
    assert compiled[2]["train/sampling_mismatch"] < 1e-4
    bound = rollout(policy, BATCH, CONFIG.sampling, 0, 0, CONFIG.batch_size, as_trained=True)
    several = replace(ALGORITHM, num_updates=2)
    weights = [policy.adapters["ada"].weights]
    optimizer = torch.optim.SGD(weights, lr=0.0)
    stats = learn(several, Accelerator(cpu=True), policy, optimizer, bound, torch.ones(4), CONFIG)
    assert stats["train/sampling_mismatch"] == 0.0  # two updates sample as they train


def test_what_is_compiled_is_kept_where_the_system_does_not_clean_up(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make()
    for before, after in (
        (default_cache_dir(), str(Path.home() / ".cache" / "pamela_rl" / "compiled")),
        ("/mine", "/mine"),
    ):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        compile_denoiser(policy, "blocks", backend="aot_eager")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == after


def test_blocks_are_those_that_a_class_names_or_those_that_repeat(make: Maker) -> None:
    assert {type(block).__name__ for block in repeated_blocks(make().denoiser)} == {"JointTransformerBlock"}
    assert {type(block).__name__ for block in repeated_blocks(load_pipeline("world").unet)} == {"BasicTransformerBlock"}
    policy = make()
    policy.denoiser = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match=r"none of Linear's modules repeats; use model.compile: full, or no"):
        compile_denoiser(policy, "blocks")


@pytest.mark.parametrize("reference", [False, True])
def test_the_memory_of_an_update_is_worked_out_without_running_it(make: Maker, reference: bool) -> None:
    policy = make()
    estimated = update_bytes(policy, CONFIG, 1, False, reference)
    assert estimated is not None
    conditioning, negative = policy.encode(["a boat", "a tree"]), policy.encode_negative("", 3.0)
    latents, time = policy.initial_latents([torch.Generator(), torch.Generator()]), torch.full((2,), 500.0)
    memory = PeakMemory()
    weights = policy.adapters["ada"].weights
    memory.ignore(iter([weights, *policy.denoiser.parameters()]))
    with memory:
        output = policy.predict(latents, time, conditioning, negative, 3.0)
        if reference:
            with torch.no_grad():
                base = policy.predict(latents, time, conditioning, negative, 3.0)
            output = output - base
        policy.backward(output.square().mean())
    assert estimated == pytest.approx(memory.peak, rel=0.1)
    assert weights.grad is not None
    twice = update_bytes(policy, replace(CONFIG, batch_size=4), 1, False, reference)
    assert twice == pytest.approx(2 * estimated, rel=0.1)
    sampled = sampling_bytes(policy, CONFIG)
    assert sampled is not None
    assert sampled < estimated


def test_working_out_the_memory_leaves_the_policy_as_it_was(folder: Path) -> None:
    policy = prepare_policy(reloaded(folder), ModelSettings(height=32, width=32, offload=True), "cpu")
    before = {name: weight.clone() for name, weight in policy.denoiser.named_parameters()}
    assert update_bytes(policy, CONFIG, 2, True, True) is not None
    assert policy.offload
    assert not getattr(policy.denoiser, "peft_config", None)
    after = dict(policy.denoiser.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) and after[name].grad is None for name, weight in before.items())


OWN_FAMILY = """
from pamela_rl.diffusion.families.stable_diffusion_3 import StableDiffusion3Policy


class OwnPolicy(StableDiffusion3Policy):
    '''SD3 with LoRA on fewer layers.'''

    pipeline_class = "StableDiffusion3Pipeline"

    @property
    def lora_target_modules(self):
        return ("attn.to_q",)
"""


def test_a_family_of_ones_own_is_given_by_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))
    file = tmp_path / "own_family.py"
    file.write_text(OWN_FAMILY, encoding="utf-8")
    policy = prepare_policy(reloaded(folder), ModelSettings(height=32, width=32, family=file), "cpu")
    assert type(policy).__name__ == "OwnPolicy"
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    assert len(policy.adapters["ada"].shapes) == 2 * 2  # two blocks
    with pytest.raises(ConfigError, match=r"model\.family is '.*nowhere\.py', but there is no such file"):
        ModelSettings(family=tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"cuda_graphs": True, "gradient_checkpointing": True}, "model.cuda_graphs and model.gradient_checkpointing"),
        ({"cuda_graphs": True, "shard": True}, "model.cuda_graphs and model.shard"),
        ({"compile": "full", "shard": True}, "model.compile and model.shard"),
    ],
)
def test_means_that_rule_each_other_out_are_refused(settings: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=f"{names} are set, but the one rules out the other; choose one"):
        ModelSettings(**settings)
