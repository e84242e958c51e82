"""Small random models in the files that the published ones come in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from original_blip import HIDDEN, imagereward_state, words
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

SIZE = 32  # pixels that the small models take
PROMPTS = ["a red boat at night", "a tree", "two houses and a tree"]
HPSV2 = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def excite(model: nn.Module, scale: float = 2.0) -> nn.Module:
    """Fresh weights answer almost the same to everything; larger ones do not."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


def image(height: int, width: int, seed: int = 0) -> Image.Image:
    """A photograph-like picture: large shapes, some of them sharp."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_tensor(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.array(p) for p in images])).permute(0, 3, 1, 2).float() / 255


def save_clip(folder: Path) -> None:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    text = {"vocab_size": len(tokens), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIZE, "patch_size": 8}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24, logit_scale_init_value=4.6)
    excite(CLIPModel(config)).save_pretrained(folder)


def random_head(width: int) -> dict[str, Tensor]:
    numbered = {0: (1024, width), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
    state = {f"layers.{i}.weight": torch.randn(shape) * 2 / shape[1] ** 0.5 for i, shape in numbered.items()}
    return state | {f"layers.{i}.bias": torch.randn(shape[0]) for i, shape in numbered.items()}


def save_aesthetic(folder: Path) -> None:
    save_clip(folder)
    torch.manual_seed(1)
    torch.save(random_head(24), folder / "sac+logos+ava1-l14-linearMSE.pth")


def save_hpsv2(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": HPSV2}))
    for seed, name in enumerate(("HPS_v2_compressed.pt", "HPS_v2.1_compressed.pt")):
        torch.manual_seed(seed)
        torch.save({"state_dict": excite(open_clip.CLIP(**HPSV2)).state_dict()}, folder / name)


def save_imagereward(folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    head = {f"mlp.{name}": value for name, value in random_head(HIDDEN).items()}
    torch.save(imagereward_state() | head, folder / "ImageReward.pt")
    BertTokenizer(vocab={word: i for i, word in enumerate(words())}).save_pretrained(folder)


SAVERS: dict[str, Callable[[Path], None]] = {
    "aesthetic": save_aesthetic,
    "clip_score": save_clip,
    "hpsv2.0": save_hpsv2,
    "hpsv2.1": save_hpsv2,
    "imagereward": save_imagereward,
    "pickscore": save_clip,
}


def write_safetensors(folder: Path, name: str, state: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, str(folder / name))
    return folder / name
