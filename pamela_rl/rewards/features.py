"""Frozen image and prompt features of an open_clip model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from pamela_rl.errors import ConfigError


class FeatureEncoder:
    """Turns pictures and prompts into features, on the device, differentiable with respect to pixels."""

    def __init__(self, model: Any, tokenizer: Any, mean: Sequence[float], std: Sequence[float], fingerprint: str):
        self.model = model.eval().requires_grad_(False)
        self.fingerprint = fingerprint
        self._tokenizer = tokenizer
        self._mean, self._std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self._prompts: dict[str, Tensor] = {}

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu") -> FeatureEncoder:
        """Load an open_clip model from a folder, or by name (``ViT-SO400M-16-SigLIP2-384`` or ``hf-hub:…``).

        Raises:
            ConfigError: The weights cannot be had.
        """
        import open_clip

        folder = Path(name)
        local = folder.is_dir()
        reference = f"local-dir:{folder}" if local else str(name)
        try:
            tags = [] if local or ":" in reference else open_clip.list_pretrained_tags_by_model(reference)
            # without require_pretrained, open_clip answers missing weights with a randomly initialised model
            model = open_clip.create_model(
                reference, pretrained=tags[-1] if tags else None, device=device, require_pretrained=True
            )
            tokenizer = open_clip.get_tokenizer(reference)
        except Exception as error:  # open_clip raises whatever the hub, the file system or torch raised
            raise ConfigError(
                f"the open_clip model {str(name)!r} cannot be loaded ({str(error)[:200]}); give a folder that holds "
                "open_clip_config.json and open_clip_model.safetensors, or a name whose weights can be downloaded."
            ) from error
        print_of = _fingerprint(folder) if local else str(name)
        preprocess = model.visual.preprocess_cfg
        return cls(model, tokenizer, preprocess["mean"], preprocess["std"], print_of)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(iter(self.model.parameters())).device

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit-length image features.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; resized with antialiasing where the model's size differs.

        Returns:
            ``(b, dim)``, with gradient to ``images``.
        """
        size = self.model.visual.image_size
        size = size if isinstance(size, (tuple, list)) else (size, size)
        images = images.to(self.device).float()
        if tuple(images.shape[-2:]) != tuple(size):
            images = interpolate(images, size=tuple(size), mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (images - self._mean.to(images.device)) / self._std.to(images.device)
        return normalize(self.model.encode_image(pixels).float(), dim=-1)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return unit-length prompt features, ``(b, dim)``; each text is encoded once and kept."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        for first in range(0, len(new), 256):
            part = new[first : first + 256]
            features = normalize(self.model.encode_text(self._tokenizer(part).to(self.device)).float(), dim=-1)
            self._prompts.update(zip(part, features, strict=True))
        return torch.stack([self._prompts[prompt] for prompt in prompts])

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return image features, prompt features and their product side by side, ``(b, 3 * dim)``.

        The product lets a shallow model see how well picture and prompt agree.
        """
        seen, asked = self.encode_images(images), self.encode_prompts(prompts)
        scale = seen.shape[-1] ** 0.5  # unit-length features have entries of about 1 / scale
        return torch.cat([seen, asked, seen * asked * scale], dim=-1) * scale


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("open_clip_*")):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_all(encoder: FeatureEncoder, images: Tensor, prompts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Encode many pictures in batches, ``(n, 3 * dim)``, on the CPU."""
    parts = range(0, len(images), batch_size)
    return torch.cat([encoder.encode(images[i : i + batch_size], prompts[i : i + batch_size]).cpu() for i in parts])
