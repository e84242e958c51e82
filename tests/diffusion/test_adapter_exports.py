"""What other programs read of an adapter: PEFT's names without diffusers' header, and Kohya's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from tiny_pipelines import BUILDERS, CALL_OPTIONS, aligned, flux, stable_diffusion_xl
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, copy_adapter, load_adapter_folder, read_adapter, save_adapter
from pamela_rl.diffusion.comfyui import comfyui_tensors
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import COMFYUI, WEIGHTS
from pamela_rl.errors import AdapterError
from pamela_rl.steering.generators import PipelineGenerator

PROMPTS, SEEDS = ["a boat", "a lighthouse at dusk, from below"], [3, 4]
NOT_IN_COMFYUI = {"SanaPipeline"}
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")


def double_blocks_alone() -> Any:
    """FLUX.1 as diffusers' reader of Kohya's names takes it at a small width: in single blocks it knows one width only."""
    pipeline = flux()
    config = dict(pipeline.transformer.config) | {"num_single_layers": 0}
    pipeline.transformer = FluxTransformer2DModel.from_config(config)
    return pipeline


READABLE = BUILDERS | {"FluxPipeline": double_blocks_alone}


def small(pipeline: Any) -> Policy:
    pipeline.set_progress_bar_config(disable=True)
    return policy_for(aligned(pipeline), 32, 64)


def trained(policy: Policy, alpha: int, rank: int = 2) -> None:
    (weights,) = add_adapter(policy, "ada", LoraSettings(rank=rank, alpha=alpha), seed=0)
    torch.nn.init.normal_(weights, std=0.1)


def renamed_back(named: dict[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    found = {}
    for key in keys:
        layer, end = key.removeprefix("transformer.").removesuffix(".weight").rsplit(".", 1)
        name = f"lora_transformer_{layer.replace('.', '_')}"
        found[key] = named.pop(f"{name}.{'lora_down' if end == 'lora_A' else 'lora_up'}.weight")
    assert {float(alpha) for alpha in named.values()} == {2.0}
    return found


def drawn(policy: Policy, family: str, name: str | None) -> Tensor:
    options = (2, 1.0, 2, 32, 64, "", CALL_OPTIONS.get(family, {}))
    return PipelineGenerator(policy.pipeline, name, *options)(PROMPTS, SEEDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_readers_give_the_same_pictures_as_the_adapter_that_was_trained(family: str, tmp_path: Path) -> None:
    policy = small(READABLE[family]())
    base = drawn(policy, family, None)
    trained(policy, alpha=6)
    with policy.drawing():
        ours = drawn(policy, family, None)
    assert float((ours - base).abs().max()) > 1e-3
    folder = save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    tensors = {"no header": load_file(folder / WEIGHTS)}
    if family not in NOT_IN_COMFYUI:
        tensors["comfyui"] = load_file(folder / COMFYUI)
    if family == "StableDiffusion3Pipeline":  # diffusers reads no names of it but its own
        tensors["comfyui"] = renamed_back(tensors["comfyui"], list(tensors["no header"]))
    for source, state in tensors.items():
        policy.pipeline.load_lora_weights(state, adapter_name="hers")
        torch.testing.assert_close(
            drawn(policy, family, "hers"), ours, atol=1e-6, rtol=0, msg=lambda m, s=source: f"{s}: {m}"
        )
        policy.pipeline.unload_lora_weights()
    assert (folder / COMFYUI).exists() == (family not in NOT_IN_COMFYUI)
    assert (COMFYUI in (folder / "README.md").read_text()) == (family not in NOT_IN_COMFYUI)


def test_flux_in_its_own_width_is_read_back_from_kohyas_names(tmp_path: Path) -> None:
    rank, width = 4, 3072
    blocks = ("transformer_blocks.1.attn", "single_transformer_blocks.2.attn")
    state = {
        f"{block}.{layer}.lora_{end}.weight": torch.randn((rank, width) if end == "A" else (width, rank))
        for block in blocks
        for layer in ("to_q", "to_k", "to_v")
        for end in "AB"
    }
    named = comfyui_tensors("FluxPipeline", state)
    assert named is not None
    save_file(named, tmp_path / COMFYUI)
    probe = torch.randn(width)
    read: Any = FluxPipeline.lora_state_dict(str(tmp_path), weight_name=COMFYUI)
    for block in blocks:
        for layer in (f"{block}.{name}" for name in ("to_q", "to_k", "to_v")):
            theirs, ours = (
                weights[f"{prefix}{layer}.lora_B.weight"] @ (weights[f"{prefix}{layer}.lora_A.weight"] @ probe)
                for weights, prefix in ((read, "transformer."), (state, ""))
            )
            torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-5)
    assert not read["transformer.single_transformer_blocks.2.proj_mlp.lora_B.weight"].any()
    state |= {"x_embedder.lora_A.weight": torch.ones(rank, 64), "x_embedder.lora_B.weight": torch.ones(width, rank)}
    assert comfyui_tensors("FluxPipeline", state) is None  # rather no file than one that lacks a layer


@pytest.mark.parametrize(("alpha", "ulps"), [(8, 0), (3, 1)])
def test_training_goes_on_from_the_same_function_at_any_alpha(
    policy: Policy, tmp_path: Path, alpha: int, ulps: int
) -> None:
    trained(policy, alpha)
    own = policy.adapters["ada"].state()
    folder = save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    add_adapter(policy, "same", LoraSettings(2, alpha), seed=1)
    copy_adapter(policy, folder, "same")
    for key, matrix in policy.adapters["same"].matrices.items():
        torch.testing.assert_close(matrix, own[key], rtol=ulps * 2**-23, atol=0)
    add_adapter(policy, "other", LoraSettings(2, 16), seed=1)
    copy_adapter(policy, folder, "other")
    latents = policy.initial_latents([torch.Generator().manual_seed(0)])
    asked = (latents, torch.full((1,), 300.0), policy.encode(["a boat"]), None, 1.0)
    with policy.wearing(policy.adapters["ada"]):
        wanted = policy.predict(*asked)
    torch.testing.assert_close(policy.predict(*asked), wanted, atol=1e-5, rtol=1e-5)
    add_adapter(policy, "wide", LoraSettings(3, 3), seed=1)
    with pytest.raises(AdapterError, match=r"has rank 2 on \d+ layers, the one to train has rank 3 on"):
        copy_adapter(policy, folder, "wide")


def test_an_adapter_is_read_in_full_into_a_half_precision_base(tmp_path: Path) -> None:
    policy = small(BUILDERS["StableDiffusionPipeline"]().to(torch.bfloat16))
    trained(policy, alpha=6)
    own = policy.adapters["ada"].state()
    folder = save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    read = read_adapter(policy, folder)
    assert all(torch.equal(read[key], own[key] * (3 if "lora_B" in key else 1)) for key in own)
    loaded = load_adapter_folder(policy.pipeline, folder, "hers").unet
    assert {p.dtype for name, p in loaded.named_parameters() if "lora" in name} == {torch.bfloat16}


def test_an_adapter_of_another_width_or_class_is_refused_in_one_sentence(tmp_path: Path) -> None:
    policy = small(BUILDERS["StableDiffusionPipeline"]())
    trained(policy, alpha=6)
    folder = save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    sdxl = stable_diffusion_xl()
    with pytest.raises(
        AdapterError, match=r"has 16 in_features, but in this StableDiffusionXLPipeline it has 32"
    ) as wide:
        load_adapter_folder(sdxl, folder, "hers")
    with pytest.raises(
        AdapterError, match="in this FluxPipeline that layer is missing; load it into the model"
    ) as other:
        load_adapter_folder(flux(), folder, "hers")
    assert max(len(str(error.value)) for error in (wide, other)) < 500
    assert sdxl.get_list_adapters() == {}
    (folder / WEIGHTS).write_bytes(b"broken")
    with pytest.raises(AdapterError, match="cannot be read"):
        load_adapter_folder(sdxl, folder, "hers")
