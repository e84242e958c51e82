"""What both denoisers of the world learn from: captioned latents, and a tokenizer for the captions."""

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
UNCONDITIONAL_SHARE = 0.1  # of captions left empty, so that guidance has something to lean on
FIRST_LESSON = range(400)  # steps on plain scenes and strong noise, in which left and right are learned


@dataclass(frozen=True)
class Lesson:
    """One step's worth of latents and captions.

    Attributes:
        clean: Scaled latents, ``(b, c, 8, 8)``.
        texts: What they are called; some are empty.
        noise: Standard normal, as ``clean``.
        generator: For whatever else the step draws.
        strong: Whether the step is one of the lessons on plain scenes, which have strong noise only.
    """

    clean: Tensor
    texts: list[str]
    noise: Tensor
    generator: torch.Generator
    strong: bool


class CaptionedLatents:
    """The world's drawings as a denoiser learns them; what a step sees depends on its number alone.

    Args:
        latents: Scaled latents of each scene's drawing, ``(n, c, 8, 8)``.
        scenes: What each drawing shows; captions are drawn afresh at every step.
        lessons: Steps on plain scenes.
    """

    def __init__(self, latents: Tensor, scenes: Sequence[Scene], lessons: Sequence[range] = (FIRST_LESSON,)):
        self._latents, self._scenes, self._lessons = latents, scenes, lessons
        self._plain = torch.tensor(plain_scenes(scenes))

    def lesson(self, step: int, batch_size: int, generator: torch.Generator) -> Lesson:
        """Return the latents and captions of one step."""
        strong = any(step in lesson for lesson in self._lessons)
        rows = torch.randint(len(self._latents), (batch_size,), generator=generator)
        if strong:
            rows = self._plain[rows % len(self._plain)]
        texts = random_captions([self._scenes[int(row)] for row in rows], np.random.default_rng(step))
        empty = torch.rand(batch_size, generator=generator) < UNCONDITIONAL_SHARE
        texts = ["" if drop else text for text, drop in zip(texts, empty.tolist(), strict=True)]
        clean = self._latents[rows]
        noise = torch.randn(clean.shape, generator=generator)
        return Lesson(clean, texts, noise, generator, strong)


def corpus_of(scenes: Sequence[Scene]) -> list[str]:
    """Caption some scenes, for a tokenizer to learn from."""
    return random_captions(list(scenes[:4000]), np.random.default_rng(0))


def new_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """Learn CLIP byte-pair merges on captions, until each of their words is one token; other text falls into pieces."""
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
    """Return the shape of a text encoder."""
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


def tokens_of(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Tokenize captions as the pipelines do, ``(b, tokens)``."""
    ids: Tensor = tokenizer(list(texts), padding="max_length", max_length=CONTEXT_LENGTH, return_tensors="pt").input_ids
    return ids
