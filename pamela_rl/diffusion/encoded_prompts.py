"""Encoded prompts: each encoded by itself and once, kept on the CPU or on disk, so that text encoders run as little as possible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.diffusion.transfers import to_device
from pamela_rl.storage import write_tensors, writing
from pamela_rl.types import Conditioning


class EncodedPrompts:
    """A cache of encoded prompts; negative prompts have entries of their own, since some models encode them differently.

    Args:
        encode: Encodes some prompts, negative or not, one mapping of one-row tensors each.

    Attributes:
        folder: Where they are kept, a file each; None keeps them in memory. Long ones of large text encoders take megabytes.
    """

    def __init__(self, encode: Callable[[Sequence[str], bool], Sequence[Mapping[str, Tensor]]]):
        self._encode = encode
        self._encoded: dict[tuple[str, bool], Conditioning] = {}
        self.folder: Path | None = None

    def store(self, prompt: str, conditioning: Conditioning, negative: bool) -> None:
        """Keep a prompt's encoding, one row."""
        if self.folder is None:
            self._encoded[prompt, negative] = conditioning.to("cpu")
            return
        tensors = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in conditioning.tensors.items()}
        path = self._file(prompt, negative)
        with writing("an encoded prompt", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, tensors)

    def complete(self, prompts: Sequence[str], negative: bool) -> None:
        """Encode what is missing, all of it at once, so that text encoders are moved to the device once."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if self._known(prompt, negative) is None]
        if missing:
            for prompt, tensors in zip(missing, self._encode(missing, negative), strict=True):
                self.store(prompt, Conditioning(dict(tensors)), negative)

    def rows(self, prompts: Sequence[str], negative: bool, device: torch.device) -> Conditioning:
        """Return one row a prompt on ``device``; prompts that are missing are encoded first."""
        self.complete(prompts, negative)
        known = {prompt: self._known(prompt, negative) for prompt in dict.fromkeys(prompts)}
        rows = Conditioning.cat([row for prompt in prompts if (row := known[prompt]) is not None])
        return Conditioning({name: to_device(tensor, device) for name, tensor in rows.tensors.items()})

    def _known(self, prompt: str, negative: bool) -> Conditioning | None:
        if self.folder is None or (prompt, negative) in self._encoded:
            return self._encoded.get((prompt, negative))
        try:
            return Conditioning(load_file(str(self._file(prompt, negative))))
        except (FileNotFoundError, SafetensorError):  # none yet, or not a whole one
            return None

    def _file(self, prompt: str, negative: bool) -> Path:
        assert self.folder is not None
        key = json.dumps([prompt, negative])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
