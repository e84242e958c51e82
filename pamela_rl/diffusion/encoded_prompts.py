"""Encoded prompts: each encoded by itself and once, kept on the CPU, so that text encoders run as little as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pamela_rl.types import Conditioning


class EncodedPrompts:
    """A cache of encoded prompts; negative prompts have entries of their own, since some models encode them differently.

    Args:
        encode: Encodes some prompts, negative or not, one mapping of one-row tensors each.
    """

    def __init__(self, encode: Callable[[Sequence[str], bool], Sequence[Mapping[str, Tensor]]]):
        self._encode = encode
        self._encoded: dict[tuple[str, bool], Conditioning] = {}

    def store(self, prompt: str, conditioning: Conditioning, negative: bool) -> None:
        """Keep a prompt's encoding, one row."""
        self._encoded[prompt, negative] = conditioning.to("cpu")

    def rows(self, prompts: Sequence[str], negative: bool, device: torch.device) -> Conditioning:
        """Return one row a prompt on ``device``; prompts that are missing are encoded first."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, negative) not in self._encoded]
        if missing:
            for prompt, tensors in zip(missing, self._encode(missing, negative), strict=True):
                self.store(prompt, Conditioning(dict(tensors)), negative)
        return Conditioning.cat([self._encoded[prompt, negative] for prompt in prompts]).to(device)
