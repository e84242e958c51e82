from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, remove_adapter
from pamela_rl.diffusion.foreign_adapters import begin_from
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import adapter_file, starting_adapter
from pamela_rl.errors import AdapterError

LAYERS = ["to_q", "to_v"]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """What another program trained with diffusers and PEFT: rank 3, alpha 6, two kinds of layers."""
    pipe = load_pipeline("world")
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=LAYERS, init_lora_weights="gaussian"))
    for name, weight in pipe.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    metadata = pipe.unet.peft_config["default"].to_dict()
    pipe.save_lora_weights(
        tmp_path / "theirs", get_peft_model_state_dict(pipe.unet), unet_lora_adapter_metadata=metadata
    )
    return tmp_path / "theirs" / "pytorch_lora_weights.safetensors"


def kohya(file: Path, target: Path) -> Path:
    """The same under Kohya's names."""
    found = {}
    for key, matrix in load_file(file).items():
        layer, end = key.removeprefix("unet.").split(".lora_")
        name = f"lora_unet_{layer.replace('.', '_')}"
        found[f"{name}.lora_{'down' if end.startswith('A') else 'up'}.weight"] = matrix.contiguous()
        found[f"{name}.alpha"] = torch.tensor(6.0)
    save_file(found, target)
    return target


def predicted(policy: Policy) -> torch.Tensor:
    asked = (policy.initial_latents([torch.Generator()] * 2), torch.full((2,), 300.0), policy.encode(["a boat"] * 2))
    return policy.predict(*asked, None, 1.0).detach()


@pytest.mark.parametrize("kind", ["file", "folder", "kohya"])
def test_training_goes_on_from_any_programs_adapter_at_another_rank_and_scale(
    foreign: Path, tmp_path: Path, policy: Policy, kind: str
) -> None:
    plain = load_pipeline("world")
    plain.load_lora_weights(foreign)
    theirs = predicted(type(policy)(plain))
    add_adapter(policy, "ada", LoraSettings(rank=4, alpha=3), 0)
    base = predicted(policy)
    start = {"file": foreign, "folder": foreign.parent}.get(kind) or kohya(foreign, tmp_path / "kohya.safetensors")
    begin_from(policy, start, "ada")
    torch.testing.assert_close(predicted(policy), theirs, atol=1e-5, rtol=1e-5)
    assert float((theirs - base).abs().max()) > 0.01
    assert not policy.pipeline.get_list_adapters()
    assert not hasattr(policy.denoiser, "peft_config")
    assert starting_adapter(start, "ada") == start
    assert adapter_file(start).is_file()


def test_what_cannot_be_trained_on_is_refused_with_its_reason(foreign: Path, tmp_path: Path, policy: Policy) -> None:
    add_adapter(policy, "ada", LoraSettings(rank=2), 0)
    with pytest.raises(AdapterError, match=r"has rank 3, the one to train 2; set train.lora.rank to 3 or more"):
        begin_from(policy, foreign, "ada")
    remove_adapter(policy, "ada")
    policy.adapt(["to_q"])
    add_adapter(policy, "ada", LoraSettings(rank=4), 0)
    with pytest.raises(
        AdapterError, match=r"matrices of layers that are not trained, e.g. .*to_v.*; name its layers as"
    ):
        begin_from(policy, foreign, "ada")
    for key, kind in ((".hada_w1_a", "LoHa"), (".lokr_w1", "LoKr"), (".dora_scale", "DoRA")):
        save_file({f"lora_unet_x{key}": torch.ones(1)}, tmp_path / "other.safetensors")
        with pytest.raises(AdapterError, match=f"is {kind}, which people's adapters here cannot be; give a LoRA"):
            begin_from(policy, tmp_path / "other.safetensors", "ada")
    save_file({"a.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match=r"other.safetensors (cannot be loaded|is for nothing)"):
        begin_from(policy, tmp_path / "other.safetensors", "ada")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(AdapterError, match=r"broken.safetensors cannot be read"):
        begin_from(policy, tmp_path / "broken.safetensors", "ada")
    with pytest.raises(AdapterError, match=r"holds 2 .safetensors files; give one file"):
        adapter_file(tmp_path)
