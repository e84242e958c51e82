"""PickScore: a CLIP model of the preferences in Pick-a-Pic (arXiv:2305.01569)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.rewards.population.clip_encoder import ClipEncoder
from pamela_rl.rewards.population.scoring import Score

PUBLISHED = "yuvalkirstain/PickScore_v1"
TOKENIZER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # the processor that the authors' example loads


def load_pickscore(source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load PickScore, a CLIP ViT-H/14; its logit scale times the cosine of picture and prompt, usually 18 to 24.

    Only differences between pictures of one prompt are meaningful: they are logits of preference. Some training code
    divides by 26; this does not. Follows the example in github.com/yuvalkirstain/PickScore.

    Args:
        source: A folder or repository that holds model and tokenizer; None for ``yuvalkirstain/PickScore_v1`` and the
            tokenizer of the CLIP it was tuned from.
        device: Device of the model.
        dtype: Of the model.

    Raises:
        ConfigError: The model cannot be loaded.
    """
    encoder = ClipEncoder.load(str(source or PUBLISHED), str(source or TOKENIZER), device, dtype)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        return encoder.logit_scale * encoder.cosine(images, prompts)

    return score
