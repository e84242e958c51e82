"""Prompts to train and to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pamela_rl.errors import DataError
from pamela_rl.types import PromptBatch


class PromptSource:
    """A list of prompts for one person, drawn from without repeats until all have been used."""

    def __init__(self, prompts: Sequence[str], user_id: str):
        self.prompts = tuple(prompt.strip() for prompt in prompts)
        self.user_id = user_id
        if not self.prompts or not all(self.prompts):
            raise DataError(
                f"the prompt list holds {len(self.prompts)} prompts, {sum(not p for p in self.prompts)} of them empty; "
                "give at least one prompt and no empty ones."
            )

    @property
    def fingerprint(self) -> str:
        """A digest of the prompts in their order; another one means another run."""
        return hashlib.sha256("\n".join(self.prompts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @classmethod
    def from_file(cls, path: Path, user_id: str) -> PromptSource:
        """Read one prompt a line; empty lines are passed over.

        Raises:
            DataError: The file is missing or holds no prompt.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors put a byte order mark in front
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read the prompt file {path} ({error}); give one prompt a line, in UTF-8."
            ) from error
        return cls([line for line in lines if line.strip()], user_id)

    def draw(self, iteration: int, num_prompts: int, group_size: int, seed: int) -> PromptBatch:
        """Choose an iteration's prompts, each for ``group_size`` pictures; depends on the arguments alone."""
        first = iteration * num_prompts
        chosen = [self._at(place, seed) for place in range(first, first + num_prompts)]
        prompts = tuple(self.prompts[row] for row in chosen for _ in range(group_size))
        # the same prompt drawn twice in one iteration is one group: its pictures are comparable
        groups = torch.tensor(chosen).repeat_interleave(group_size)
        return PromptBatch(prompts, (self.user_id,) * len(prompts), groups, torch.arange(len(prompts)))

    def _at(self, place: int, seed: int) -> int:
        lap, within = divmod(place, len(self.prompts))
        return int(np.random.default_rng((seed, lap)).permutation(len(self.prompts))[within])
