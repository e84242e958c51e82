"""Pictures of arms kept on disk, so that a comparison that was cut off draws nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pamela_rl.storage import ensure_writable, folder_name
from pamela_rl.types import ImageGenerator


@dataclass(frozen=True)
class KeptDrawings:
    """Draws once: pictures as people see them, eight bits a colour, in one file an arm and person.

    Attributes:
        generate: Draws what is not there yet.
        folder: Where the files are.
        name: Of the arm and the person; together with ``facts``, prompts and seeds it tells drawings apart.
        facts: What else the pictures depend on, e.g. adapter, steps and guidance.
    """

    generate: ImageGenerator
    folder: Path
    name: tuple[str, str]
    facts: str

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``."""
        asked = json.dumps([self.facts, list(prompts), list(seeds)])
        key = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        path = ensure_writable(self.folder) / f"{'.'.join(folder_name(part) for part in self.name)}.safetensors"
        kept = _read(path, key)
        if kept is None:
            kept = (255 * self.generate(prompts, seeds).clamp(0, 1)).round().to(torch.uint8).cpu().contiguous()
            partial = path.with_suffix(f".{os.getpid()}.partial")
            save_file({"images": kept}, str(partial), metadata={"key": key})
            os.replace(partial, path)
        return kept.float() / 255


def _read(path: Path, key: str) -> Tensor | None:
    """Read the drawings if they are those asked for; what cannot be read is drawn again."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.get_tensor("images") if (file.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None
