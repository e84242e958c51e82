"""Base models as people have them: one file, variants, pickled weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from original_layout import save_single_file
from tiny_pipelines import stable_diffusion

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.model_files import check_model_files, variant_of
from pamela_rl.diffusion.saved_adapters import INFO, adapter_base_model
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.rated_drawing import RatedDrawing

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def own() -> Any:
    torch.manual_seed(0)
    return stable_diffusion()


def same_weights(one: Any, other: Any, dtype: torch.dtype = torch.float32) -> bool:
    states = [(getattr(one, part).state_dict(), getattr(other, part).state_dict()) for part in PARTS]
    return all(a.keys() == b.keys() and all(torch.equal(a[k].to(dtype), b[k].to(dtype)) for k in a) for a, b in states)


def configs(own: Any, folder: Path) -> Path:
    """A pipeline's folder without weights."""
    own.save_pretrained(folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    return folder


def converted(error: ConfigError) -> None:
    """Do what an error's sentence says."""
    found = re.search(r'python -c "(.*)"$', str(error))
    assert found is not None
    exec(found[1], {})


def test_a_single_file_is_loaded_with_the_settings_of_a_folder(own: Any, tmp_path: Path) -> None:
    file, config = save_single_file(own, tmp_path / "my model.safetensors"), configs(own, tmp_path / "config")
    settings = ModelSettings(name=str(file), config=config)
    assert same_weights(load_pipeline(settings.name, config=settings.config), own)
    assert RatedDrawing(settings).facts()["model.config"] == str(config)
    half = load_pipeline(settings.name, dtype=torch.bfloat16, config=settings.config)
    assert half.unet.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match=r"single file .* diffusers would ask the hub for; give .* as model.config"):
        ModelSettings(name=str(file))
    with pytest.raises(ConfigError, match=r"model.shard is true but model.name is a single file"):
        ModelSettings(name=str(file), config=config, shard=True)
    with pytest.raises(ConfigError, match=r"holds no model_index.json"):
        ModelSettings(name=str(file), config=tmp_path)
    with pytest.raises(ConfigError, match=r"there is no such file"):
        check_model_files(tmp_path / "nowhere.safetensors", config)
    for name in ("world", str(config), "some/model"):
        with pytest.raises(ConfigError, match=r"model.config is .*only a single .safetensors file needs"):
            ModelSettings(name=name, config=config)


def test_a_folder_of_a_variant_alone_is_loaded_as_that(own: Any, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    stable = stable_diffusion()
    for part in PARTS:
        getattr(stable, part).load_state_dict(getattr(own, part).state_dict())
    stable.to(dtype=torch.float16).save_pretrained(folder, variant="fp16")
    assert variant_of(folder) == "fp16"
    loaded = load_pipeline(folder)
    assert loaded.unet.dtype == torch.float32
    assert same_weights(loaded, own, torch.float16)
    whole = tmp_path / "whole"
    own.save_pretrained(whole)
    shutil.copytree(folder, whole, dirs_exist_ok=True)
    assert variant_of(whole) is None  # both are there: those of full precision
    assert same_weights(load_pipeline(whole), own)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_pickled_weights_are_refused_with_a_line_that_converts_them(
    own: Any, variant: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    own.save_pretrained(folder, variant=variant, safe_serialization=False)
    with pytest.raises(ConfigError, match=r"weights of unet, vae as pickled files alone") as refused:
        ModelSettings(name=str(folder))
    with pytest.raises(ConfigError, match="pickled files alone"):
        load_pipeline(folder)
    converted(refused.value)
    assert same_weights(load_pipeline(f"{folder}-safetensors"), own)


def test_a_pickled_single_file_is_refused_with_a_line_that_converts_it(own: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(save_single_file(own, tmp_path / "made.safetensors"))
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "old.ckpt")
    with pytest.raises(ConfigError, match=r"old.ckpt', which is pickled and is not opened here") as refused:
        check_model_files(tmp_path / "old.ckpt", None)
    converted(refused.value)
    config = configs(own, tmp_path / "config")
    assert same_weights(load_pipeline(tmp_path / "old.safetensors", config=config), own)


@pytest.mark.parametrize(
    ("fact", "name"),
    [
        ("my models/one.safetensors 512 x 512 bfloat16 compile full", "my models/one.safetensors"),
        ("world 64 x 64 float32", "world"),
        ("some/model 512 x 768", "some/model"),
    ],
)
def test_an_adapter_names_its_base_model_whatever_blanks_are_in_it(fact: str, name: str, tmp_path: Path) -> None:
    (tmp_path / INFO).write_text(f'{{"base_model": "{fact}"}}', encoding="utf-8")
    assert adapter_base_model(tmp_path) == name
