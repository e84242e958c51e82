"""Human Preference Score v2.0 and v2.1 (arXiv:2306.09341)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population.preprocess import resize_pad, standardize
from pamela_rl.rewards.population.scoring import Score
from pamela_rl.rewards.population.weights import find_weights, load_weights, read_tensors

PUBLISHED = "xswu/HPSv2"
ARCHITECTURE = "ViT-H-14"


def load_hpsv2(name: str, source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load HPSv2, an open_clip ViT-H-14; the cosine of picture and prompt, usually 0.2 to 0.35.

    This is the result of ``hpsv2.score``; the published benchmark tables show 100 times this. Pictures that are not
    square are padded with black, not cropped. Follows ``img_score.py`` of github.com/tgxs002/HPSv2 and the open_clip beside it.

    Args:
        name: ``HPS_v2_compressed.pt`` or ``HPS_v2.1_compressed.pt``.
        source: That file, or a folder that holds it, with an ``open_clip_config.json`` if it is no ViT-H-14; None for
            ``xswu/HPSv2``.
        device: Device of the model.
        dtype: Of the model.

    Raises:
        ConfigError: The model cannot be loaded, or is another one.
    """
    import open_clip

    path = find_weights(source or PUBLISHED, [name])
    architecture = _architecture(path.parent / "open_clip_config.json") or open_clip.get_model_config(ARCHITECTURE)
    model = open_clip.CLIP(**architecture)
    load_weights(model, read_tensors(path), path)
    model.eval().requires_grad_(False).to(device, dtype)
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = standardize(resize_pad(images, model.visual.image_size[0])).to(dtype)
        image_features = normalize(model.encode_image(pixels).float(), dim=-1)
        texts = list(dict.fromkeys(prompts))
        tokens = tokenizer(texts, context_length=model.context_length).to(device)
        prompt_features = normalize(model.encode_text(tokens).float(), dim=-1)
        return (image_features * prompt_features[[texts.index(prompt) for prompt in prompts]]).sum(dim=-1)

    return score


def _architecture(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no open_clip config ({error}); it needs a model_cfg, or take it away.") from error
    return found
