"""ImageReward: what experts preferred, read by a BLIP from picture and prompt together (arXiv:2304.05977)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.rewards.population.blip import text_tower, vision_tower
from pamela_rl.rewards.population.preprocess import cover, standardize
from pamela_rl.rewards.population.pretrained import load_tokenizer
from pamela_rl.rewards.population.score_head import load_score_head
from pamela_rl.rewards.population.scoring import Score
from pamela_rl.rewards.population.weights import beside, find_weights, part_of, read_tensors

PUBLISHED, NAME = "THUDM/ImageReward", "ImageReward.pt"
TOKENIZER = "google-bert/bert-base-uncased"
MAX_TOKENS = 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the head's raw output


def load_imagereward(source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load ImageReward v1.0; a score with mean 0 and standard deviation 1 on its authors' pictures.

    Follows ``ImageReward.py`` of github.com/THUDM/ImageReward, which reads the first token of a text encoder that
    attends to the picture. Of the prompt the first 35 tokens count. Tensors of the file that scoring does not need
    are left alone, as there.

    Args:
        source: ``ImageReward.pt`` (the tokenizer is then BERT's, from the hub), or a folder that holds it and the
            files of ``bert-base-uncased``'s tokenizer; None for ``THUDM/ImageReward``.
        device: Where the model lives.
        dtype: In what BLIP computes; the head computes in fp32.

    Raises:
        ConfigError: The model cannot be had, or is another.
    """
    from transformers import BertTokenizer

    path = find_weights(source or PUBLISHED, [NAME])
    state = read_tensors(path)
    vision = vision_tower(part_of(state, "blip.visual_encoder."), path)
    text = text_tower(part_of(state, "blip.text_encoder."), path)
    vocabulary, width = text.config.vocab_size, text.config.hidden_size
    tokenizer = load_tokenizer(BertTokenizer, beside(source, TOKENIZER), vocabulary, added=("[DEC]", "[ENC]"))
    head = load_score_head(state, "mlp.layers.", width, path, device)
    for tower in (vision, text):
        tower.eval().requires_grad_(False).to(device, dtype)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = standardize(cover(images, vision.config.image_size, rounding=round)).to(dtype)
        seen = vision(pixel_values=pixels).last_hidden_state  # (b, 1 + patches, width)
        tokens = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(device)
        read = text(tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=seen)
        return (head(read.last_hidden_state[:, 0].float()).squeeze(-1) - MEAN) / STD

    return score
