"""Training data of both denoisers: captioned latents, and the tokenizer of the captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTokenizer

from pamela_rl.world.captions import random_captions
from pamela_rl.world.scenes import Scene, plain_scenes

CONTEXT_LENGTH = 32
UNCONDITIONAL_SHARE = 0.1  # of captions dropped, for classifier-free guidance
FIRST_CURRICULUM = range(400)  # steps on plain scenes and high noise, in which left and right are learned


@dataclass(frozen=True)
class Batch:
    """The latents and captions of one training step.

    Attributes:
        clean: Scaled latents, ``(b, c, 8, 8)``.
        texts: Their captions; some are empty.
        noise: Standard normal, as ``clean``.
        generator: For further random numbers of the step.
        high_noise: Whether the step belongs to the curriculum of plain scenes, which uses high noise only.
    """

    clean: Tensor
    texts: list[str]
    noise: Tensor
    generator: torch.Generator
    high_noise: bool


class CaptionedLatents:
    """Draws training batches from captioned latents; a batch depends on the step's number alone.

    Args:
        latents: Scaled latents of each scene's drawing, ``(n, c, 8, 8)``.
        scenes: What each drawing shows; a new caption is drawn at every step.
        curriculum: Ranges of steps that use plain scenes only.
    """

    def __init__(self, latents: Tensor, scenes: Sequence[Scene], curriculum: Sequence[range] = (FIRST_CURRICULUM,)):
        self._latents, self._scenes, self._curriculum = latents, scenes, curriculum
        self._plain = torch.tensor(plain_scenes(scenes))

    def batch(self, step: int, batch_size: int, generator: torch.Generator) -> Batch:
        """Return the latents and captions of one step."""
        high_noise = any(step in steps for steps in self._curriculum)
        rows = torch.randint(len(self._latents), (batch_size,), generator=generator)
        if high_noise:
            rows = self._plain[rows % len(self._plain)]
        texts = random_captions([self._scenes[int(row)] for row in rows], np.random.default_rng(step))
        dropped = torch.rand(batch_size, generator=generator) < UNCONDITIONAL_SHARE
        texts = ["" if drop else text for text, drop in zip(texts, dropped.tolist(), strict=True)]
        clean = self._latents[rows]
        noise = torch.randn(clean.shape, generator=generator)
        return Batch(clean, texts, noise, generator, high_noise)


def caption_corpus(scenes: Sequence[Scene]) -> list[str]:
    """Caption scenes for the training of a tokenizer."""
    return random_captions(list(scenes[:4000]), np.random.default_rng(0))


def new_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """Train a CLIP byte-pair tokenizer on captions; each of their words becomes one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=1400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator((text.replace(",", " ,") for text in captions), trainer)
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]]
    pieces = dict.fromkeys([*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges)])
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)


def text_config(tokenizer: CLIPTokenizer, num_layers: int = 2) -> CLIPTextConfig:
    """Return the config of a text encoder."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        projection_dim=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Tokenize captions as the pipelines do, ``(b, tokens)``."""
    ids: Tensor = tokenizer(list(texts), padding="max_length", max_length=CONTEXT_LENGTH, return_tensors="pt").input_ids
    return ids
