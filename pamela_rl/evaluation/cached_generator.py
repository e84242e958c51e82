"""An on-disk cache of an arm's images, so that an interrupted comparison draws nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pamela_rl.evaluation.identity import Facts, digest_of
from pamela_rl.storage import ensure_writable, folder_name, write_tensors
from pamela_rl.types import ImageGenerator


@dataclass(frozen=True)
class CachedGenerator:
    """Caches the images of a generator with eight bits per channel, one file per arm and user.

    Attributes:
        generate: Draws what is not cached.
        folder: Of the files.
        name: Of the user and the arm; with ``facts``, prompts and seeds it identifies the images.
        facts: Everything else the images depend on: base model or service, adapter, settings, rewards that choose.
    """

    generate: ImageGenerator
    folder: Path
    name: tuple[str, str]
    facts: Facts

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return images in [0, 1], ``(b, 3, height, width)``."""
        key = digest_of({"facts": self.facts, "prompts": list(prompts), "seeds": list(seeds)})
        path = ensure_writable(self.folder) / f"{'.'.join(folder_name(part) for part in self.name)}.safetensors"
        images = _read(path, key)
        if images is None:
            images = (255 * self.generate(prompts, seeds).clamp(0, 1)).round().to(torch.uint8).cpu().contiguous()
            write_tensors(path, {"images": images}, {"key": key})
        return images.float() / 255


def _read(path: Path, key: str) -> Tensor | None:
    """Read the images if the key matches; None otherwise, or if the file cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.get_tensor("images") if (file.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None
