"""LAION's improved aesthetic predictor: a rating of the picture alone, without the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.rewards.population.clip_encoder import ClipEncoder
from pamela_rl.rewards.population.clip_score import PUBLISHED as CLIP
from pamela_rl.rewards.population.score_head import load_score_head
from pamela_rl.rewards.population.scoring import Score
from pamela_rl.rewards.population.weights import companion_source, find_weights, read_tensors

PUBLISHED = "trl-lib/ddpo-aesthetic-predictor"
HEADS = ("aesthetic-model.pth", "sac+logos+ava1-l14-linearMSE.pth")  # on the hub; in its authors' repository


def load_aesthetic(source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load CLIP ViT-L/14 and the head on its unit-length picture features; a rating of 1 to 10, usually 4 to 7.

    The head is that of github.com/christophschuhmann/improved-aesthetic-predictor; preprocessing is transformers', as
    in ddpo-pytorch and TRL. For pictures that are not square the original's crop may be shifted by one pixel.

    Args:
        source: The head's file (CLIP is then OpenAI's), or a folder that holds the head, ``config.json``,
            ``model.safetensors`` and the tokenizer of CLIP; None for TRL's copy of the head.
        device: Device of the models.
        dtype: Of CLIP; the head computes in fp32.

    Raises:
        ConfigError: A model cannot be loaded, or the head does not fit this CLIP.
    """
    path = find_weights(source or PUBLISHED, HEADS)
    place = companion_source(source, CLIP)
    encoder = ClipEncoder.load(place, place, device, dtype)
    head = load_score_head(read_tensors(path), "layers.", encoder.dim, path, device)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        return head(encoder.encode_images(images)).squeeze(-1)

    return score
