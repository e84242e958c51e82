from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from published_files import HPSV2, PROMPTS, as_tensor, image, write_safetensors
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population import load_population_reward

FILES = {"hpsv2.0": "HPS_v2_compressed.pt", "hpsv2.1": "HPS_v2.1_compressed.pt"}
PEOPLE = ["ada"] * 3


def published_state(file: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


@torch.no_grad()
def open_clips_answer(file: Path, rgb_images: list[Image.Image]) -> Tensor:
    model = open_clip.CLIP(**HPSV2, output_dict=True).eval()
    model.load_state_dict(published_state(file))
    transform = image_transform_v2(PreprocessCfg(size=32, resize_mode="longest"), is_train=False)
    answer = model(torch.stack([transform(p) for p in rgb_images]), open_clip.tokenize(PROMPTS))
    return (answer["image_features"] @ answer["text_features"].T).diagonal()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("shape", "tolerance"), [((32, 32), 1e-5), ((64, 91), 5e-3), ((91, 64), 5e-3)])
def test_the_score_is_open_clips_cosine(
    saved: dict[str, Path], name: str, shape: tuple[int, int], tolerance: float
) -> None:
    rgb_images = [image(*shape, seed) for seed in range(3)]
    scores = load_population_reward(name, saved[name])(as_tensor(rgb_images), PROMPTS, PEOPLE).mean
    theirs = open_clips_answer(saved[name] / FILES[name], rgb_images)
    torch.testing.assert_close(scores, theirs, atol=tolerance, rtol=0)
    assert theirs.std() > 4 * tolerance


def test_the_two_versions_read_each_their_own_file(saved: dict[str, Path], images: Tensor) -> None:
    scores = [load_population_reward(name, saved[name])(images, PROMPTS, PEOPLE).mean for name in FILES]
    assert (scores[0] - scores[1]).abs().max() > 0.01


def test_a_file_of_half_precision_safetensors_scores_the_same(
    saved: dict[str, Path], images: Tensor, tmp_path: Path
) -> None:
    state = {k: v.half() for k, v in published_state(saved["hpsv2.1"] / FILES["hpsv2.1"]).items()}
    file = write_safetensors(tmp_path, "mine.safetensors", state)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": HPSV2}))
    before = load_population_reward("hpsv2.1", saved["hpsv2.1"])(images, PROMPTS, PEOPLE).mean
    after = load_population_reward("hpsv2.1", file)(images, PROMPTS, PEOPLE).mean
    torch.testing.assert_close(after, before, atol=1e-2, rtol=0)


def test_without_a_config_the_file_must_be_a_vit_h_14(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # the real one has a billion weights: another of the same names and depth stands in for what open_clip knows of it
    known = open_clip.get_model_config("ViT-H-14")
    assert (known["embed_dim"], known["vision_cfg"]["layers"], known["text_cfg"]["layers"]) == (1024, 32, 24)
    wider = {**HPSV2, "embed_dim": 24}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: wider if name == "ViT-H-14" else None)
    file = write_safetensors(tmp_path, "a.safetensors", published_state(saved["hpsv2.0"] / FILES["hpsv2.0"]))
    with pytest.raises(
        ConfigError, match=r"does not hold the weights of CLIP: text_projection is \(16, 16\), not \(16, 24"
    ):
        load_population_reward("hpsv2.0", file)


def test_a_config_that_is_none_is_named(saved: dict[str, Path], tmp_path: Path) -> None:
    file = write_safetensors(tmp_path, "a.safetensors", {"a": torch.zeros(1)})
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"open_clip_config.json is no open_clip config"):
        load_population_reward("hpsv2.0", file)
