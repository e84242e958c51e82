"""The table of a prompt search: every variant, its pictures and scores, one JSON line a variant, rounds whole or absent."""

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
from pamela_rl.steering.proposers import Scored
from pamela_rl.storage import write_text


@dataclass(frozen=True)
class Drawn:
    """One variant drawn in one round.

    Attributes:
        round: From 0.
        prompt: The variant.
        seeds: Of its pictures.
        rewards: The person's reward of each picture for the request, less caution.
        faithfulness: How well each shows the request; empty where nothing tells.
        refused: Whether it lost what was asked for.
        files: Its pictures, below the search's folder.
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
        facts: Request, person and settings; a folder that holds another search is refused.

    Raises:
        CheckpointError: The folder holds another search, or cannot be read.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path, head = folder, folder / "variants.jsonl", json.dumps(dict(facts), sort_keys=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        if lines and lines[0] != head:
            raise CheckpointError(
                f"{folder} holds a search with other settings; there: {lines[0]}; here: {head}. "
                "Choose another --output_dir or remove that folder."
            )
        self.rows = [row for batch in map(_round_in, lines[1:]) for row in batch]
        write_text(self._path, "".join(line + "\n" for line in (lines or [head]) if line == head or _round_in(line)))

    @property
    def rounds_done(self) -> int:
        """Rounds that are complete."""
        return max((row.round + 1 for row in self.rows), default=0)

    @property
    def images_spent(self) -> int:
        """Pictures drawn so far."""
        return sum(len(row.seeds) for row in self.rows)

    def add_round(self, rows: Sequence[Drawn]) -> None:
        """Add a whole round in one write: after a kill it is there or it is not."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([asdict(row) for row in rows]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows

    def ranked(self) -> list[Scored]:
        """Return all variants that were never refused, best first, each with the mean of all its pictures."""
        refused = {row.prompt for row in self.rows if row.refused}
        kept = dict.fromkeys(row.prompt for row in self.rows if row.prompt not in refused)
        scored = [self._scored(prompt) for prompt in kept]
        return sorted((s for s in scored if math.isfinite(s.score)), key=lambda scored: -scored.score)

    def best(self) -> Scored | None:
        """Return the variant whose mean reward less its standard error is highest, or None where none is left.

        A variant drawn twice that did well by luck is so put behind one that did nearly as well many times.
        """
        spread = self._spread()
        return max(self.ranked(), key=lambda s: s.score - spread / s.num_images**0.5, default=None)

    def save_pictures(self, number: int, prompt: str, images: Tensor) -> list[str]:
        """Write a variant's pictures of one round, ``(n, 3, h, w)`` in [0, 1], and return their names."""
        digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        names = [f"pictures/{number:02d}-{digest}-{row}.png" for row in range(len(images))]
        (self._folder / "pictures").mkdir(exist_ok=True)
        for name, image in zip(names, images):
            pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            Image.fromarray(pixels).save(self._folder / name)
        return names

    def _scored(self, prompt: str) -> Scored:
        rows = [row for row in self.rows if row.prompt == prompt]
        rewards = [reward for row in rows for reward in row.rewards]
        shown = [value for row in rows for value in row.faithfulness]
        return Scored(prompt, float(np.mean(rewards)), float(np.mean(shown)) if shown else None, len(rewards))

    def _spread(self) -> float:
        """Standard deviation of the pictures of one variant around their mean, over all variants."""
        groups = [np.array(row.rewards) for row in self.rows if len(row.rewards) > 1]
        freedom = sum(len(group) - 1 for group in groups)
        return float(np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / freedom)) if freedom else 0.0


def _round_in(line: str) -> list[Drawn]:
    """Read one round; a line cut off by a kill holds none."""
    try:
        return [Drawn(**row) for row in json.loads(line)]
    except (ValueError, TypeError):
        return []
