"""ImageReward: a BLIP model of human preferences (arXiv:2304.05977)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.rewards.population.blip import text_tower, vision_tower
from pamela_rl.rewards.population.preprocess import resize_center_crop, standardize
from pamela_rl.rewards.population.pretrained import load_tokenizer
from pamela_rl.rewards.population.score_head import load_score_head
from pamela_rl.rewards.population.scoring import Score
from pamela_rl.rewards.population.weights import companion_source, find_weights, read_tensors, strip_prefix

PUBLISHED, NAME = "THUDM/ImageReward", "ImageReward.pt"
TOKENIZER = "google-bert/bert-base-uncased"
MAX_TOKENS = 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the head's raw output


def load_imagereward(source: str | Path | None, device: torch.device, dtype: torch.dtype) -> Score:
    """Load ImageReward v1.0; a score with mean 0 and standard deviation 1 on its authors' pictures.

    Follows ``ImageReward.py`` of github.com/THUDM/ImageReward, which reads the first token of a text encoder that
    attends to the picture. Prompts are truncated to 35 tokens. Unused tensors of the file are ignored.

    Args:
        source: ``ImageReward.pt`` (the tokenizer is then BERT's, from the hub), or a folder that holds it and the
            files of ``bert-base-uncased``'s tokenizer; None for ``THUDM/ImageReward``.
        device: Device of the model.
        dtype: Of BLIP; the head computes in fp32.

    Raises:
        ConfigError: The model cannot be loaded, or is another one.
    """
    from transformers import BertTokenizer

    path = find_weights(source or PUBLISHED, [NAME])
    state = read_tensors(path)
    vision = vision_tower(strip_prefix(state, "blip.visual_encoder."), path)
    text = text_tower(strip_prefix(state, "blip.text_encoder."), path)
    vocabulary, width = text.config.vocab_size, text.config.hidden_size
    tokenizer = load_tokenizer(BertTokenizer, companion_source(source, TOKENIZER), vocabulary, added=("[DEC]", "[ENC]"))
    head = load_score_head(state, "mlp.layers.", width, path, device)
    for tower in (vision, text):
        tower.eval().requires_grad_(False).to(device, dtype)

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = standardize(resize_center_crop(images, vision.config.image_size, rounding=round)).to(dtype)
        image_tokens = vision(pixel_values=pixels).last_hidden_state  # (b, 1 + patches, width)
        tokens = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(device)
        output = text(tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=image_tokens)
        return (head(output.last_hidden_state[:, 0].float()).squeeze(-1) - MEAN) / STD

    return score
