from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from original_blip import Original
from published_files import PROMPTS, as_tensor, image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import BertTokenizer

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.rewards.population.blip import text_tower, vision_tower
from pamela_rl.rewards.population.preprocess import MEAN, STD
from pamela_rl.rewards.population.weights import strip_prefix

PEOPLE = ["ada"] * 3
UNUSED = {
    "blip.vision_proj.weight",
    "blip.vision_proj.bias",
    "blip.text_proj.weight",
    "blip.text_proj.bias",
    "blip.text_encoder.embeddings.position_ids",
}


@pytest.fixture
def state(saved: dict[str, Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(saved["imagereward"] / "ImageReward.pt", weights_only=True)
    return state


@pytest.mark.parametrize(("shape", "tolerance"), [((32, 32), 2e-5), ((64, 70), 0.1)])
def test_the_score_is_that_of_the_original_written_anew(
    saved: dict[str, Path], state: dict[str, Tensor], shape: tuple[int, int], tolerance: float
) -> None:
    rgb_images = [image(*shape, seed) for seed in range(3)]
    resize = Resize(32, interpolation=InterpolationMode.BICUBIC)
    transform = Compose([resize, CenterCrop(32), ToTensor(), Normalize(MEAN, STD)])
    tokens = BertTokenizer.from_pretrained(saved["imagereward"])(
        PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    )
    original = Original(state)
    theirs = original.score(
        torch.stack([transform(p) for p in rgb_images]), tokens.input_ids, tokens.attention_mask.float()
    )
    ours = load_population_reward("imagereward", saved["imagereward"])(as_tensor(rgb_images), PROMPTS, PEOPLE).mean
    torch.testing.assert_close(ours, theirs, atol=tolerance * float(theirs.std()), rtol=1e-5)
    assert Counter(original.used) == Counter(state.keys() - UNUSED)  # each weight once, none left over


def test_every_weight_finds_one_place_in_transformers_towers(state: dict[str, Tensor]) -> None:
    placed: Counter[int] = Counter()
    for tower, prefix in ((vision_tower, "blip.visual_encoder."), (text_tower, "blip.text_encoder.")):
        marked = {k: torch.full_like(v, i) for i, (k, v) in enumerate(strip_prefix(state, prefix).items())}
        marked = {k: v for k, v in marked.items() if prefix + k not in UNUSED}
        filled = tower(marked, Path("marked")).state_dict()
        placed = Counter(int(value.flatten()[0]) for value in filled.values())
        assert placed == Counter(int(value.flatten()[0]) for value in marked.values())


def test_sizes_are_read_off_the_weights_as_those_of_the_published_model_would_be() -> None:
    width, text_width = 1024, 768
    shapes = {"pos_embed": (1, 197, width), "patch_embed.proj.weight": (width, 3, 16, 16)}
    shapes |= {f"blocks.{i}.mlp.fc1.weight": (4096, width) for i in range(24)}
    with torch.device("meta"), pytest.raises(ConfigError, match="class_embedding is missing") as refused:
        vision_tower({name: torch.empty(shape) for name, shape in shapes.items()}, Path("x"))
    assert "is (" not in str(refused.value)  # no shape is wrong
    text = {
        "embeddings.word_embeddings.weight": (30524, text_width),
        "embeddings.position_embeddings.weight": (512, text_width),
        "encoder.layer.0.crossattention.self.key.weight": (text_width, width),
    }
    text |= {f"encoder.layer.{i}.intermediate.dense.weight": (3072, text_width) for i in range(12)}
    with torch.device("meta"), pytest.raises(ConfigError, match="is missing") as refused:
        text_tower({name: torch.empty(shape) for name, shape in text.items()}, Path("x"))
    assert "is (" not in str(refused.value)


def test_what_stands_behind_the_35th_token_does_not_count(saved: dict[str, Path], images: Tensor) -> None:
    reward = load_population_reward("imagereward", saved["imagereward"])
    first_32 = "a tree " * 16  # [CLS] stands before them and [SEP] behind the 33rd word
    prompts = [first_32 + last for last in ("boat red", "boat blue", "house red")]
    scores = reward(images[:1].expand(3, -1, -1, -1), prompts, PEOPLE).mean
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
    assert (scores[0] - scores[2]).abs() > 1e-3


def test_a_file_that_lacks_a_weight_or_is_another_model_is_refused(
    saved: dict[str, Path], state: dict[str, Tensor], tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["imagereward"], tmp_path / "copy")
    gone = "blip.text_encoder.encoder.layer.1.crossattention.self.value.bias"
    torch.save({k: v for k, v in state.items() if k != gone}, folder / "ImageReward.pt")
    with pytest.raises(ConfigError, match=r"encoder.layer.1.crossattention.self.value.bias is missing"):
        load_population_reward("imagereward", folder)
    torch.save({"a": torch.zeros(1)}, folder / "ImageReward.pt")
    with pytest.raises(ConfigError, match=r"is no ImageReward: it lacks patch_embed.proj.weight; give ImageReward.pt"):
        load_population_reward("imagereward", folder)


def test_a_folder_without_its_tokenizer_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["imagereward"], tmp_path / "copy", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ConfigError, match="knows 7 tokens but the model 19"):
        load_population_reward("imagereward", folder)
