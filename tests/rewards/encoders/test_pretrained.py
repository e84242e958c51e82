from __future__ import annotations

import json
import logging
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.factory import _MODEL_CONFIGS
from open_clip.pretrained import _PRETRAINED, get_pretrained_cfg
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import _create_vision_transformer

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.settings import SIGLIP
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.encoder import new_tokenizer

PROMPTS = ["a Boat, at night!", "a tree"]
WEIGHTS = "open_clip_model.safetensors"


def vit_pico_patch16_siglip_64(pretrained: bool = False, **given: Any) -> Any:
    """What timm calls vit_so400m_patch16_siglip_384, but small."""
    small = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    settings = {**small, "class_token": False, "global_pool": "map", **given}
    return _create_vision_transformer("vit_pico_patch16_siglip_64", pretrained=pretrained, **settings)


@pytest.fixture(scope="session", autouse=True)
def _timm_knows_it() -> None:
    timm.models.register_model(vit_pico_patch16_siglip_64)


def small_siglip2() -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Config and preprocessing of the recommended encoder, with small towers, and a model of it with random weights."""
    config = deepcopy(_MODEL_CONFIGS[SIGLIP])
    config["embed_dim"] = 32
    config["vision_cfg"] |= {"image_size": 64, "timm_model_name": "vit_pico_patch16_siglip_64"}
    config["text_cfg"] |= {"vocab_size": 700, "width": 32, "heads": 2, "layers": 2}
    model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    with torch.no_grad():  # timm starts projections at zero mean and small: far from what training leaves
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    theirs = get_pretrained_cfg(SIGLIP, "webli")
    preprocess = {key: theirs[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    return config, preprocess, model.eval()


@pytest.fixture
def siglip2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[Path, Any]:
    """Such a model in a folder, with a tokenizer of its own, and the model itself."""
    caplog.set_level(logging.ERROR)  # timm warns that it has no weights for it
    config, preprocess, model = small_siglip2()
    folder = tmp_path / "siglip2"
    new_tokenizer(["a boat at night", "a tree"] * 10).save_pretrained(folder)
    save_file(model.state_dict(), folder / WEIGHTS)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return folder, model


@pytest.fixture
def named(siglip2: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same as a name in open_clip's own list, ``Pico-SigLIP2``; the tags of its weights."""
    folder, _ = siglip2
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"]["hf_tokenizer_name"] = str(folder)
    tags = {"webli": {**get_pretrained_cfg(SIGLIP, "webli"), "file": str(folder / WEIGHTS)}}
    monkeypatch.setitem(_MODEL_CONFIGS, "Pico-SigLIP2", config)
    monkeypatch.setitem(_PRETRAINED, "Pico-SigLIP2", tags)
    return tags


def test_the_recommended_encoder_is_a_siglip2_whose_only_weights_open_clip_calls_webli() -> None:
    assert SIGLIP == "ViT-SO400M-16-SigLIP2-384"
    assert open_clip.list_pretrained_tags_by_model(SIGLIP) == ["webli"]


def test_a_model_built_as_siglip2_is_loaded_from_a_folder_as_it_was(siglip2: tuple[Path, Any]) -> None:
    folder, model = siglip2
    encoder = FeatureEncoder.load(folder)
    assert type(encoder.model.visual) is type(model.visual)
    assert encoder.preprocessing.mean == encoder.preprocessing.std == (0.5, 0.5, 0.5)
    assert encoder.preprocessing.resize_mode == "squash"
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        seen = model.encode_image((images - 0.5) / 0.5, normalize=True)
        requested = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS), normalize=True)
    torch.testing.assert_close(encoder.encode_images(images), seen, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode_prompts(PROMPTS), requested, atol=1e-6, rtol=0)
    assert (requested[0] - requested[1]).abs().max() > 0.01
    assert FeatureEncoder.load(f"local-dir:{folder}").fingerprint == encoder.fingerprint


@pytest.mark.parametrize("shape", [(64, 64), (40, 90), (150, 70)])
def test_both_paths_of_a_siglip2_agree_and_gradients_reach_the_pixels(
    siglip2: tuple[Path, Any], shape: tuple[int, int]
) -> None:
    encoder = FeatureEncoder.load(siglip2[0])
    image = Image.effect_mandelbrot((shape[1], shape[0]), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    images = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, *shape, 3)
    images = (images.permute(0, 3, 1, 2).float() / 255).requires_grad_()
    seen = encoder.encode_images(images)
    of_file = encoder.encode_pixels(encoder.preprocessing.from_pil(image)[None])
    torch.testing.assert_close(seen, of_file, atol=2e-3, rtol=0)
    seen[0, 0].backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.3


def test_a_name_gives_the_features_of_its_weights(siglip2: tuple[Path, Any], named: dict[str, Any]) -> None:
    by_name, by_folder = FeatureEncoder.load("Pico-SigLIP2"), FeatureEncoder.load(siglip2[0])
    assert by_name.preprocessing == by_folder.preprocessing
    images = torch.rand(2, 3, 80, 50)
    assert torch.equal(by_name.encode(images, PROMPTS), by_folder.encode(images, PROMPTS))


def test_the_fingerprint_of_a_name_tells_which_weights_it_was_given(
    siglip2: tuple[Path, Any], named: dict[str, Any]
) -> None:
    first = FeatureEncoder.load("Pico-SigLIP2").fingerprint
    assert first.startswith("Pico-SigLIP2:webli:")
    assert FeatureEncoder.load("Pico-SigLIP2:webli").fingerprint == first
    named["webli"]["resize_mode"] = "longest"
    assert FeatureEncoder.load("Pico-SigLIP2").fingerprint != first
    named["webli"]["resize_mode"] = "squash"
    weights = load_file(siglip2[0] / WEIGHTS)
    weights["visual.trunk.norm.bias"][0] += 1e-6
    save_file(weights, siglip2[0] / WEIGHTS)
    assert FeatureEncoder.load("Pico-SigLIP2").fingerprint.startswith("Pico-SigLIP2:webli:")
    assert FeatureEncoder.load("Pico-SigLIP2").fingerprint != first


def test_of_several_weights_the_first_is_taken_or_the_one_that_is_named(
    siglip2: tuple[Path, Any], named: dict[str, Any], tmp_path: Path
) -> None:
    weights = {key: -value for key, value in load_file(siglip2[0] / WEIGHTS).items()}
    save_file(weights, tmp_path / "other.safetensors")
    named["other"] = {**named["webli"], "file": str(tmp_path / "other.safetensors")}
    first, other = FeatureEncoder.load("Pico-SigLIP2"), FeatureEncoder.load("Pico-SigLIP2:other")
    assert first.fingerprint.startswith("Pico-SigLIP2:webli:")
    assert other.fingerprint.startswith("Pico-SigLIP2:other:")
    bias = "visual.trunk.norm.bias"
    assert torch.equal(other.model.state_dict()[bias], -first.model.state_dict()[bias])
    with pytest.raises(ConfigError, match=r"no weights 'third' of Pico-SigLIP2; it has webli, other: give .*:TAG"):
        FeatureEncoder.load("Pico-SigLIP2:third")


def test_weights_trained_with_the_quick_activation_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((WORLD_ENCODER / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    config["text_cfg"]["hf_tokenizer_name"] = str(WORLD_ENCODER)
    theirs = {"file": str(WORLD_ENCODER / WEIGHTS), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    monkeypatch.setitem(_MODEL_CONFIGS, "Pico", config)
    monkeypatch.setitem(_PRETRAINED, "Pico", {"quick": {**theirs, "quick_gelu": True}, "plain": theirs})
    quick, plain = FeatureEncoder.load("Pico:quick"), FeatureEncoder.load("Pico:plain")
    activations = [type(encoder.model.visual.transformer.resblocks[0].mlp[1]).__name__ for encoder in (quick, plain)]
    assert activations == ["QuickGELU", "GELU"]
    assert quick.fingerprint.split(":")[2] != plain.fingerprint.split(":")[2]


def test_a_folder_without_weights_of_the_right_shape_is_refused(siglip2: tuple[Path, Any]) -> None:
    weights = load_file(siglip2[0] / WEIGHTS)
    del weights["visual.trunk.norm.bias"]
    save_file(weights, siglip2[0] / WEIGHTS)
    with pytest.raises(ConfigError, match=r"siglip2' cannot be loaded .*Missing key"):
        FeatureEncoder.load(siglip2[0])


@pytest.mark.parametrize("file", ["open_clip_config.json", "tokenizer.json", WEIGHTS])
def test_the_fingerprint_of_a_folder_follows_what_decides_features(
    encoder: FeatureEncoder, tmp_path: Path, file: str
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(WORLD_ENCODER, copy)
    (copy / "README.md").write_text("what it is")
    assert FeatureEncoder.load(copy).fingerprint == encoder.fingerprint
    if file == WEIGHTS:
        weights = load_file(copy / file)
        weights["logit_scale"] += 1e-3
        save_file(weights, copy / file)
    else:
        (copy / file).write_text((copy / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert FeatureEncoder.load(copy).fingerprint != encoder.fingerprint


@pytest.mark.parametrize("name", ["no-such-model", "ViT-B-32", "hf-hub:a/b", "empty", "without-weights"])
def test_an_encoder_whose_weights_cannot_be_had_is_refused_and_never_made_up(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(WORLD_ENCODER, tmp_path / "without-weights", ignore=shutil.ignore_patterns("*.safetensors"))
    given = tmp_path / name if (tmp_path / name).is_dir() else name
    with pytest.raises(ConfigError, match=rf"open_clip model '.*{name}' cannot be loaded .* give a folder that holds"):
        FeatureEncoder.load(given)


def test_without_a_connection_the_default_says_how_to_get_its_weights() -> None:
    with pytest.raises(
        ConfigError,
        match=r"model 'ViT-SO400M-16-SigLIP2-384' cannot be loaded .*give a folder .*: these are got with "
        r"'hf download timm/ViT-SO400M-16-SigLIP2-384 --local-dir FOLDER', .* \(HF_HUB_OFFLINE is set here\)\.$",
    ):
        FeatureEncoder.load()
