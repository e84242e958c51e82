"""Frozen image and prompt features of an open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.preprocessing import Preprocessing
from pamela_rl.rewards.encoders.pretrained import load_pretrained
from pamela_rl.rewards.preference import Encoder
from pamela_rl.rewards.settings import SIGLIP, WORLD
from pamela_rl.storage import WORLD_ENCODER

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class FeatureEncoder:
    """Encodes pictures and prompts on the device, differentiable with respect to pixels.

    Generated pictures are tensors and stay on the device (``encode_images``). Pictures from files are preprocessed by
    open_clip's own PIL transform (``preprocessing.from_pil``, then ``encode_pixels``). ``Preprocessing`` says how the
    two differ. With the world's encoder the features have a cosine above .9999 and entries that differ by up to 2.5e-3
    (pictures of 40 to 400 pixels a side, smooth ones and noise).

    Args:
        model: An open_clip model; it is frozen.
        tokenizer: Its tokenizer.
        mean: Mean of the colours in [0, 1]; the rest of the preprocessing is the model's own.
        std: Standard deviation of the colours.
        fingerprint: Identifies the encoder; other features have another fingerprint.
        name: What ``open_encoder`` takes to open it again.
        precision: "fp32", "bf16" or "fp16" for the model's own arithmetic; "auto" is bf16 on a CUDA device that
            supports it and fp32 elsewhere. Weights, preprocessing and features are always fp32.

    Raises:
        ConfigError: The precision is none of these.
    """

    reads_prompts = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        mean: Sequence[float],
        std: Sequence[float],
        fingerprint: str,
        precision: Precision = "auto",
        name: str = "",
    ):
        if precision not in get_args(Precision):
            raise ConfigError(
                f"the encoder's precision is {precision!r}; choose one of {', '.join(get_args(Precision))}."
            )
        self.model = model.eval().requires_grad_(False)
        self.name, self.fingerprint = name, fingerprint
        self.preprocessing = Preprocessing.of(model, mean, std)
        self._tokenizer, self._precision = tokenizer, precision
        self._prompts: dict[str, Tensor] = {}

    @classmethod
    def load(cls, name: str | Path = SIGLIP, device: str = "cpu", precision: Precision = "auto") -> FeatureEncoder:
        """Load an open_clip model with its pretrained weights.

        Args:
            name: A folder; a name that open_clip knows, with or without the tag of its weights (``ViT-B-32:openai``;
                without one the first in open_clip's list, which is the only one of every SigLIP2); or ``hf-hub:…``.
            device: Where it runs.
            precision: Of its arithmetic, as above.

        Raises:
            ConfigError: The weights cannot be loaded, or the precision is unknown.
        """
        model, tokenizer, fingerprint = load_pretrained(name, device)
        preprocess = model.visual.preprocess_cfg
        opens_it = str(Path(name).resolve()) if Path(name).is_dir() else str(name)
        opens_it = WORLD if opens_it == str(WORLD_ENCODER) else opens_it
        return cls(model, tokenizer, preprocess["mean"], preprocess["std"], fingerprint, precision, opens_it)

    @property
    def recipe(self) -> object:
        """What determines image features besides the fingerprint: the arithmetic and the preprocessing."""
        return [self.precision, asdict(self.preprocessing)]

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(iter(self.model.parameters())).device

    @property
    def precision(self) -> str:
        """What the model computes in: fp32, bf16 or fp16."""
        if self._precision != "auto":
            return self._precision
        cuda = self.device.type == "cuda"
        return "bf16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"

    def from_pil(self, image: Image.Image) -> Tensor:
        """Preprocess an image with open_clip's own transform, ``(3, *size)``, on the CPU."""
        return self.preprocessing.from_pil(image)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit-length image features.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; resized with antialiasing where the model's size differs.

        Returns:
            ``(b, dim)``, with gradient to ``images``.
        """
        return self.encode_pixels(self.preprocessing(images.to(self.device).float()))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return unit-length features, ``(b, dim)``, of preprocessed pictures, ``(b, 3, *size)``."""
        with self._arithmetic():
            features = self.model.encode_image(pixels.to(self.device))
        return normalize(features.float(), dim=-1)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Return the tokens of prompts, ``(b, context_length)``, on the CPU."""
        return self._tokenizer(list(prompts))

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Return unit-length features of tokens from ``tokenize``, ``(b, dim)``."""
        with self._arithmetic():
            features = self.model.encode_text(tokens.to(self.device))
        return normalize(features.float(), dim=-1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return unit-length prompt features, ``(b, dim)``; each text is encoded once and cached."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        for first in range(0, len(new), 256):
            part = new[first : first + 256]
            self._prompts.update(zip(part, self.encode_tokens(self.tokenize(part)), strict=True))
        return torch.stack([self._prompts[prompt] for prompt in prompts])

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the features of pictures and prompts, joined by ``combine``, ``(b, 3 * dim)``."""
        return combine(self.encode_images(images), self.encode_prompts(prompts))

    def _arithmetic(self) -> torch.autocast:
        dtype = _DTYPES.get(self.precision)  # an autocast around the caller must not change what fp32 means here
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def combine(image_features: Tensor, prompt_features: Tensor) -> Tensor:
    """Return image features, prompt features and their product side by side, ``(n, 3 * dim)``.

    The product gives shallow models access to how well picture and prompt match.

    Args:
        image_features: Unit-length features of pictures, ``(n, dim)``.
        prompt_features: Unit-length features of their prompts, ``(n, dim)``.
    """
    scale = image_features.shape[-1] ** 0.5  # unit-length features have entries of about 1 / scale
    return torch.cat([image_features, prompt_features, image_features * prompt_features * scale], dim=-1) * scale


@torch.no_grad()
def encode_all(encoder: Encoder, images: Tensor, prompts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Encode many pictures in batches, ``(n, d)``, on the CPU."""
    parts = tqdm(range(0, len(images), batch_size), desc="features", unit="batch", delay=2)
    return torch.cat([encoder.encode(images[i : i + batch_size], prompts[i : i + batch_size]).cpu() for i in parts])
