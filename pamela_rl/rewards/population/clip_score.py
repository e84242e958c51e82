"""CLIP score: the similarity of picture and prompt (arXiv:2104.08718, in the convention of torchmetrics)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.rewards.population.clip_encoder import ClipEncoder
from pamela_rl.rewards.population.scoring import Score

PUBLISHED = "openai/clip-vit-large-patch14"


def load_clip_score(source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load CLIP ViT-L/14; 100 times the cosine of picture and prompt, usually 15 to 35.

    This is torchmetrics' ``clip_score`` of one picture, which clips only the mean over a data set at 0. The paper's own
    score is 2.5 times the cosine, clipped at 0, of ViT-B/32 with "A photo depicts " before the prompt. There is no
    clipping here, because it would stop the gradient.

    Args:
        source: A folder or repository as OpenAI publishes it; None for ``openai/clip-vit-large-patch14``.
        device: Device of the model.
        dtype: Of the model.

    Raises:
        ConfigError: The model cannot be loaded.
    """
    place = str(source or PUBLISHED)
    encoder = ClipEncoder.load(place, place, device, dtype)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        return 100 * encoder.cosine(images, prompts)

    return score
