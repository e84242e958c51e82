"""Prompts as encoded: each by itself and once, kept on the CPU, so that text encoders are asked as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pamela_rl.types import Conditioning


class EncodedPrompts:
    """A cache of prompts, negative ones apart, since some models encode nothing at all differently there.

    Args:
        encode: Encodes some prompts, negative or not, one mapping of one-row tensors each.
    """

    def __init__(self, encode: Callable[[Sequence[str], bool], Sequence[Mapping[str, Tensor]]]):
        self._encode = encode
        self._known: dict[tuple[str, bool], Conditioning] = {}

    def remember(self, prompt: str, told: Conditioning, negative: bool) -> None:
        """Keep a prompt as encoded, one row."""
        self._known[prompt, negative] = told.to("cpu")

    def rows(self, prompts: Sequence[str], negative: bool, device: torch.device) -> Conditioning:
        """Return one row a prompt on ``device``; what is not known is encoded first."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, negative) not in self._known]
        if missing:
            for prompt, tensors in zip(missing, self._encode(missing, negative), strict=True):
                self.remember(prompt, Conditioning(dict(tensors)), negative)
        return Conditioning.cat([self._known[prompt, negative] for prompt in prompts]).to(device)
