"""The table of a prompt search: every variant with its images and scores, one JSON line per round."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pamela_rl.errors import CheckpointError
from pamela_rl.steering.proposers import ScoredPrompt
from pamela_rl.storage import write_text


@dataclass(frozen=True)
class VariantRecord:
    """One variant in one round.

    Attributes:
        round: From 0.
        prompt: The variant.
        seeds: Of its images.
        rewards: Lower confidence bound of the reward of each image, for the request.
        faithfulness: Of each image to the request; empty where it is not scored.
        refused: Whether its faithfulness is too low.
        files: Its images, relative to the search's folder.
    """

    round: int
    prompt: str
    seeds: list[int]
    rewards: list[float]
    faithfulness: list[float]
    refused: bool
    files: list[str]


class SearchTable:
    """A search's rows, in memory and in ``variants.jsonl``.

    Args:
        folder: The search's own folder.
        facts: Request, user and settings; a folder of another search is refused.

    Raises:
        CheckpointError: The folder holds another search, or cannot be read.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path, header = folder, folder / "variants.jsonl", json.dumps(dict(facts), sort_keys=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        if lines and lines[0] != header:
            raise CheckpointError(
                f"{folder} holds a search with other settings; there: {lines[0]}; here: {header}. "
                "Choose another --output_dir or remove that folder."
            )
        self.rows = [row for batch in map(_parse_round, lines[1:]) for row in batch]
        write_text(
            self._path, "".join(line + "\n" for line in (lines or [header]) if line == header or _parse_round(line))
        )

    @property
    def rounds_done(self) -> int:
        """Number of complete rounds."""
        return max((row.round + 1 for row in self.rows), default=0)

    @property
    def images_spent(self) -> int:
        """Images drawn so far."""
        return sum(len(row.seeds) for row in self.rows)

    def add_round(self, rows: Sequence[VariantRecord]) -> None:
        """Append a whole round in one write, so that a killed search never leaves part of one."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([asdict(row) for row in rows]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows

    def ranked(self) -> list[ScoredPrompt]:
        """Return all variants that were never refused, best first, each with the mean over all its images."""
        refused = {row.prompt for row in self.rows if row.refused}
        accepted = dict.fromkeys(row.prompt for row in self.rows if row.prompt not in refused)
        scored = [self._scored(prompt) for prompt in accepted]
        return sorted((s for s in scored if math.isfinite(s.score)), key=lambda scored: -scored.score)

    def best(self) -> ScoredPrompt | None:
        """Return the variant whose mean reward less its standard error is highest, or None where none is left.

        So a lucky variant with few images ranks behind one with nearly the same mean over many.
        """
        std = self._pooled_std()
        return max(self.ranked(), key=lambda s: s.score - std / s.num_images**0.5, default=None)

    def save_images(self, round_index: int, prompt: str, images: Tensor) -> list[str]:
        """Write a variant's images of one round, ``(n, 3, h, w)`` in [0, 1], and return their names."""
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        names = [f"pictures/{round_index:02d}-{digest}-{row}.png" for row in range(len(images))]
        (self._folder / "pictures").mkdir(exist_ok=True)
        for name, image in zip(names, images):
            pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            Image.fromarray(pixels).save(self._folder / name)
        return names

    def _scored(self, prompt: str) -> ScoredPrompt:
        rows = [row for row in self.rows if row.prompt == prompt]
        rewards = [reward for row in rows for reward in row.rewards]
        faithfulness = [value for row in rows for value in row.faithfulness]
        mean_faithfulness = float(np.mean(faithfulness)) if faithfulness else None
        return ScoredPrompt(prompt, float(np.mean(rewards)), mean_faithfulness, len(rewards))

    def _pooled_std(self) -> float:
        """Pooled standard deviation of the rewards within variants."""
        groups = [np.array(row.rewards) for row in self.rows if len(row.rewards) > 1]
        degrees_of_freedom = sum(len(group) - 1 for group in groups)
        if not degrees_of_freedom:
            return 0.0
        return float(np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / degrees_of_freedom))


def _parse_round(line: str) -> list[VariantRecord]:
    """Parse one round; an incomplete line gives none."""
    try:
        return [VariantRecord(**row) for row in json.loads(line)]
    except (ValueError, TypeError):
        return []
