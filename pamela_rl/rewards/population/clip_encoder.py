"""A CLIP model of transformers: unit-length features of pictures and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pamela_rl.rewards.population.preprocess import resize_center_crop, standardize
from pamela_rl.rewards.population.pretrained import load_model, load_tokenizer


class ClipEncoder:
    """Frozen; preprocesses as CLIPImageProcessor does; differentiable with respect to pixels."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype):
        self.logit_scale = model.logit_scale.detach().exp().item()  # read before dtype rounds it
        self.dim = int(model.config.projection_dim)
        self._model = model.eval().requires_grad_(False).to(device, dtype)
        self._tokenizer = tokenizer
        self._size = int(model.config.vision_config.image_size)
        self._max_tokens = int(model.config.text_config.max_position_embeddings)

    @classmethod
    def load(cls, place: str, tokenizer_place: str, device: torch.device, dtype: torch.dtype) -> ClipEncoder:
        """Load a model and its tokenizer, each from a folder or the hub.

        Raises:
            ConfigError: They cannot be loaded, or do not match.
        """
        from transformers import CLIPModel, CLIPTokenizer

        model = load_model(CLIPModel, place)
        tokenizer = load_tokenizer(CLIPTokenizer, tokenizer_place, model.config.text_config.vocab_size)
        return cls(model, tokenizer, device, dtype)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit-length features, ``(b, dim)``, of RGB in [0, 1], ``(b, 3, height, width)``."""
        pixels = standardize(resize_center_crop(images, self._size, rounding=int)).to(self._model.dtype)
        pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        return normalize(self._model.visual_projection(pooled).float(), dim=-1)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return unit-length features, ``(b, dim)``; each text is encoded once, and truncated if it is too long."""
        texts = list(dict.fromkeys(prompts))
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        pooled = self._model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        features = normalize(self._model.text_projection(pooled).float(), dim=-1)
        return features[[texts.index(prompt) for prompt in prompts]]

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the cosine similarity of each picture and its prompt, ``(b,)``."""
        return (self.encode_images(images) * self.encode_prompts(prompts)).sum(dim=-1)
