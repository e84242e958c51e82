from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open

import pamela_rl
from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import (
    WEIGHTS,
    adapter_state,
    add_adapter,
    remove_adapter,
    save_adapter,
)
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.saved_adapters import list_adapters
from pamela_rl.errors import AdapterError
from pamela_rl.steering.generators import PipelineGenerator

PROMPTS, SEEDS = ["a boat", "a tree"], [1, 2]


def trained(policy: StableDiffusionPolicy, name: str = "someone", alpha: int = 12) -> None:
    for weight in add_adapter(policy, name, LoraSettings(rank=4, alpha=alpha), seed=0):
        torch.nn.init.normal_(weight, std=0.1)


def test_an_adapter_gives_the_same_pictures_in_a_fresh_pipeline(policy: StableDiffusionPolicy, tmp_path: Path) -> None:
    trained(policy)
    folder = save_adapter(policy, "someone", "Some One", tmp_path, {"seed": "0"}, {"samples.png": b"x"})
    with policy.drawing():
        ours = PipelineGenerator(policy.pipeline, None, 4)(PROMPTS, SEEDS)
    fresh = load_pipeline("world")
    fresh.load_lora_weights(folder)  # the plain way
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = fresh(PROMPTS, num_inference_steps=4, guidance_scale=1.0, generator=generators, output_type="pt").images
    torch.testing.assert_close(images, ours, atol=1e-5, rtol=0)
    again = pamela_rl.load_adapter(load_pipeline("world"), tmp_path, "Some One")  # ours
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = again(PROMPTS, num_inference_steps=4, guidance_scale=1.0, generator=generators, output_type="pt").images
    torch.testing.assert_close(images, ours, atol=1e-5, rtol=0)


def test_weights_carry_facts_and_a_card_with_samples(policy: StableDiffusionPolicy, tmp_path: Path) -> None:
    trained(policy)
    folder = save_adapter(policy, "someone", "<b>|x", tmp_path, {"reward": "taste basis"}, {"samples.png": b"x"})
    with safe_open(str(folder / WEIGHTS), framework="pt") as file:
        assert file.metadata()["pamela_rl.reward"] == "taste basis"
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == 4  # the rank
        assert (file.metadata()["pamela_rl.rank"], file.metadata()["pamela_rl.alpha"]) == ("4", "12")
    card = (folder / "README.md").read_text()
    assert "samples.png" in card
    assert "<b>" not in card
    assert list_adapters(tmp_path) == {"<b>|x": folder}


@pytest.mark.parametrize("user_id", ["../../x", "a.b", "😀"])
def test_strange_ids_stay_inside_the_run(policy: StableDiffusionPolicy, tmp_path: Path, user_id: str) -> None:
    trained(policy)
    folder = save_adapter(policy, "someone", user_id, tmp_path / "run", {}, {})
    assert folder.resolve().parent == (tmp_path / "run" / "adapters").resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert list_adapters(tmp_path / "run") == {user_id: folder}


def test_what_does_not_load_back_is_not_published(policy: StableDiffusionPolicy, tmp_path: Path) -> None:
    trained(policy)
    load = policy.pipeline.load_lora_weights

    def corrupted(folder: Path, adapter_name: str) -> None:
        load(folder, adapter_name=adapter_name)
        for name, weight in policy.denoiser.named_parameters():
            if adapter_name in name:
                weight.data += 1

    policy.pipeline.load_lora_weights = corrupted
    with pytest.raises(AdapterError, match="loads back differently; nothing was published"):
        save_adapter(policy, "someone", "u", tmp_path, {}, {})
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_removing_the_adapter_leaves_the_base_model(policy: StableDiffusionPolicy) -> None:
    generator = PipelineGenerator(policy.pipeline, None, 4)
    before = generator(PROMPTS, SEEDS)
    trained(policy)
    assert torch.equal(generator(PROMPTS, SEEDS), before)
    remove_adapter(policy, "someone")
    assert torch.equal(generator(PROMPTS, SEEDS), before)


def test_the_first_weights_follow_from_the_seed(policy: StableDiffusionPolicy) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.rand(1)
        add_adapter(policy, "a", LoraSettings(), seed)
        states.append(adapter_state(policy, "a"))
        remove_adapter(policy, "a")
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_asking_for_an_adapter_that_is_not_there_names_those_that_are(
    policy: StableDiffusionPolicy, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="no adapters under"):
        list_adapters(tmp_path)
    trained(policy)
    save_adapter(policy, "someone", "ada", tmp_path, {}, {})
    with pytest.raises(AdapterError, match=r"no adapter of user 'bob'; it has those of: ada"):
        pamela_rl.load_adapter(policy.pipeline, tmp_path, "bob")


def test_who_is_loaded_again_or_after_another_is_active_and_a_changed_file_replaces_what_was_loaded(
    policy: StableDiffusionPolicy, tmp_path: Path
) -> None:
    states = {}
    for user in ("ada", "ben"):
        trained(policy)
        save_adapter(policy, "someone", user, tmp_path, {}, {})
        states[user] = policy.adapters["someone"].state()
        remove_adapter(policy, "someone")
    pipe = load_pipeline("world")

    def loaded(user: str) -> bool:
        pamela_rl.load_adapter(pipe, tmp_path, user)
        on = get_peft_model_state_dict(pipe.unet, adapter_name=user)
        same = {key: matrix * (3 if "lora_B" in key else 1) for key, matrix in states[user].items()}
        return pipe.get_active_adapters() == [user] and all(torch.equal(on[key], same[key]) for key in same)

    assert all([loaded("ada"), loaded("ada"), loaded("ben"), loaded("ada"), loaded("ben")])
    first = pipe.unet.peft_config["ben"]
    trained(policy)
    save_adapter(policy, "someone", "ada", tmp_path, {}, {})
    assert not loaded("ada")
    states["ada"] = policy.adapters["someone"].state()
    assert all([loaded("ada"), loaded("ben")])
    assert pipe.unet.peft_config["ben"] is first  # not loaded again
    pipe.unload_lora_weights()
    assert loaded("ada")


@pytest.mark.parametrize("how", ["loaded", "fused", "fused and deleted", "text encoder"])
def test_nothing_is_trained_on_a_pipeline_that_has_a_lora(
    policy: StableDiffusionPolicy, tmp_path: Path, how: str
) -> None:
    trained(policy)
    save_adapter(policy, "someone", "ada", tmp_path, {}, {})
    pipe = load_pipeline("world")
    if how == "text encoder":
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), pipe.text_encoder)
    else:
        pamela_rl.load_adapter(pipe, tmp_path, "ada")
    if how.startswith("fused"):
        pipe.fuse_lora()
    if how == "fused and deleted":
        pipe.delete_adapters("ada")
    other = StableDiffusionPolicy(pipe)
    with pytest.raises(
        AdapterError, match=r"has a LoRA on it.*pipe.unload_lora_weights.*pipe.fuse_lora.*save_pretrained"
    ):
        add_adapter(other, "x", LoraSettings(), seed=0)
    if how == "loaded":
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        add_adapter(other, "x", LoraSettings(), seed=0)


def test_every_file_of_an_adapter_can_be_read_by_who_can_read_the_others(
    policy: StableDiffusionPolicy, tmp_path: Path
) -> None:
    trained(policy)
    folder = save_adapter(policy, "someone", "ada", tmp_path, {}, {"samples.png": b"x"})
    (tmp_path / "plain").write_text("")
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 5
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode}


def test_the_card_files_an_adapter_under_its_base_model(policy: StableDiffusionPolicy, tmp_path: Path) -> None:
    trained(policy)

    def card(base_model: str) -> ModelCard:
        folder = save_adapter(policy, "someone", "ada", tmp_path, {"base_model": base_model}, {})
        return ModelCard((folder / "README.md").read_text())

    data = card("stabilityai/stable-diffusion-3.5-medium 512 x 512 bfloat16").data
    assert data.base_model == "stabilityai/stable-diffusion-3.5-medium"
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert data.library_name == "diffusers"
    assert data.pipeline_tag == "text-to-image"
    assert {"lora", "text-to-image"} <= set(data.tags)
    for folder in (
        "pamela_rl world",
        "models/my sdxl 512 x 512",
        "/home/ada/sdxl 512 x 512",
        "docs/sdxl/x 8 x 8",
        "docs",
    ):
        assert card(folder).data.base_model is None
