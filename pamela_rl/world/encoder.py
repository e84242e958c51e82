"""The world's open_clip model: image and text features, trained from scratch contrastively on captioned scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import CLIPTokenizer

from pamela_rl.storage import write_tensors
from pamela_rl.world.captioned_latents import CONTEXT_LENGTH, new_tokenizer
from pamela_rl.world.captions import random_captions
from pamela_rl.world.corruptions import corrupt, soften, vary_tone
from pamela_rl.world.fitting import fit
from pamela_rl.world.scenes import SIZE, Scene, plain_scenes
from pamela_rl.world.settings import FitSettings

MEAN, STD = 0.5, 0.25
CURRICULUM_STEPS = 200  # first steps, on plain scenes only
_TONES = (
    ("very dark", "dark", "bright", "very bright"),
    ("very cool", "cool", "warm", "very warm"),
    ("grey", "soft coloured", "coloured", "strongly coloured"),
)
_LIMITS = ((0.28, 0.45, 0.62), (-0.12, 0.0, 0.12), (0.10, 0.20, 0.32))


def tone_words(images: Tensor) -> list[str]:
    """Describe the lightness, warmth and colourfulness of pictures in words, ``(b, 3, h, w)`` in [0, 1]."""
    red, green, blue = images.unbind(dim=1)
    values = (
        (0.30 * red + 0.59 * green + 0.11 * blue).mean(dim=(1, 2)),
        (red - blue).mean(dim=(1, 2)),
        (images.amax(dim=1) - images.amin(dim=1)).mean(dim=(1, 2)),
    )
    bins = [torch.bucketize(value, torch.tensor(limits)) for value, limits in zip(values, _LIMITS, strict=True)]
    return [
        " ".join(_TONES[tone][int(bin_index[row])] for tone, bin_index in enumerate(bins)) for row in range(len(images))
    ]


def model_config(vocab_size: int) -> dict[str, Any]:
    """Return the open_clip config of the model: a small vision transformer and a smaller text one."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH + 16,
            "vocab_size": vocab_size,
            "width": 96,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "world",
        },
    }


def _captions(scenes: Sequence[Scene], images: Tensor, corrupted: Tensor, step: int) -> list[str]:
    named = random_captions(scenes, np.random.default_rng(step), named=(0.4, 1.0))
    tones = tone_words(images)
    return [
        f"a spoilt picture, {tone}" if is_corrupted else f"{text}, {tone}"
        for text, tone, is_corrupted in zip(named, tones, corrupted.tolist(), strict=True)
    ]


def train_encoder(
    drawings: Tensor, scenes: Sequence[Scene], settings: FitSettings, batch_size: int, folder: Path, target: Path
) -> None:
    """Train the model on drawings, ``(n, 64, 64, 3)`` bytes, and save it to ``target`` as open_clip loads it."""
    from open_clip.model import CLIP

    corpus = random_captions(list(scenes[:3000]), np.random.default_rng(1), named=(0.4, 1.0))
    words = [f"a spoilt picture, {word}" for tone in _TONES for word in tone]
    tokenizer = new_tokenizer([*corpus, *words * 30])
    config = model_config(len(tokenizer))
    model = CLIP(config["embed_dim"], config["vision_cfg"], dict(config["text_cfg"]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    plain = torch.tensor(plain_scenes(scenes))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(drawings), (batch_size,), generator=generator)
        if step < CURRICULUM_STEPS:
            rows = plain[rows % len(plain)]
        images = drawings[rows].permute(0, 3, 1, 2).float() / 255
        images = soften(vary_tone(images, generator), generator)
        corrupted = torch.rand(batch_size, generator=generator) < 0.1
        images = torch.where(corrupted[:, None, None, None], corrupt(images, generator), images)
        texts = _captions([scenes[int(row)] for row in rows], images, corrupted, step)
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=CONTEXT_LENGTH + 16, return_tensors="pt"
        ).input_ids
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            image_features = model.encode_image(((images - MEAN) / STD).to(device), normalize=True).float()
            text_features = model.encode_text(tokens.to(device), normalize=True).float()
        logits = model.logit_scale.clamp(max=4.6).exp() * image_features @ text_features.T
        target_rows = torch.arange(batch_size, device=device)
        return 0.5 * (cross_entropy(logits, target_rows) + cross_entropy(logits.T, target_rows))

    fit("encoder", [model], loss, settings, folder)
    _save(model.cpu(), tokenizer, config, target)


def _save(model: torch.nn.Module, tokenizer: CLIPTokenizer, config: dict[str, Any], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    write_tensors(target / "open_clip_model.safetensors", state)
    preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (target / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")
    tokenizer.save_pretrained(target)
