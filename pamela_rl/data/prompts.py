"""Prompts for training and testing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pamela_rl.config import ValidationSettings
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.types import PromptBatch

HELD_OUT_EVERY, LEAST_TO_SPLIT = 5, 10  # different prompts


def read_prompts(path: Path) -> list[str]:
    """Read one prompt per line, or the ``prompt`` of each JSON object of a ``.jsonl`` file; empty lines are skipped.

    Raises:
        DataError: The file is missing or holds no prompt, or a line is no such object.
    """
    return check_prompts([prompt for prompt, _ in _read(path)])


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Read what a ``.jsonl`` file says of each prompt besides the prompt itself, by prompt; of other files, nothing.

    Raises:
        DataError: The file is missing, a line is no object with a prompt, or a prompt is there twice with other metadata.
    """
    known: dict[str, dict[str, Any]] = {}
    for prompt, metadata in _read(path):
        if known.setdefault(prompt.strip(), metadata) != metadata:
            raise DataError(
                f"{path} has the prompt {prompt.strip()!r} twice, with different metadata; rewards are told it by the prompt, so "
                "leave one of them out."
            )
    return {prompt: metadata for prompt, metadata in known.items() if metadata}


def _read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The prompts of a file and what else it says of each."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors put a byte order mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the prompt file {path} ({error}); give one prompt a line, in UTF-8.") from error
    if path.suffix != ".jsonl":
        return [(line, {}) for line in lines if line.strip()]
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"line {number} of {path} is no JSON ({error}); give one object a line.") from error
            if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
                raise DataError(f'line {number} of {path} has no prompt; give objects such as {{"prompt": "a boat"}}.')
            rows.append((row.pop("prompt"), row))
    return rows


def check_prompt_file(path: Path | None, drawn_by: str | None) -> None:
    """Refuse a file that holds no prompt, and a model without a file for which no prompts are known.

    Args:
        path: The file, or None.
        drawn_by: A clause that names the model, e.g. "the base model is some/model"; None where the model has prompts of
            its own.

    Raises:
        DataError: The file is missing or holds no prompt.
        ConfigError: There is no file, and it is needed.
    """
    if path is not None:
        read_prompts(path)
    elif drawn_by is not None:
        raise ConfigError(f"{drawn_by}, for which no prompts are known; give --prompts FILE.")


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """Return the prompts without the spaces around them.

    Raises:
        DataError: There are none, or some are empty.
    """
    stripped = [prompt.strip() for prompt in prompts]
    if not stripped or not all(stripped):
        raise DataError(
            f"the prompt list holds {len(stripped)} prompts, {sum(not p for p in stripped)} of them empty; "
            "give at least one prompt and no empty ones."
        )
    return stripped


def rows_by_epoch(size: int, first: int, count: int, seed: int) -> list[int]:
    """Return rows of a list that is gone through again and again, each time in another order, without replacement.

    Args:
        size: Of the list.
        first: Place of the first row, counted over all epochs.
        count: Of rows.
        seed: With the epoch it fixes the order.
    """
    places = range(first, first + count)
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(size) for epoch in {p // size for p in places}}
    return [int(orders[place // size][place % size]) for place in places]


class PromptSource:
    """A list of prompts for one user, drawn without replacement, epoch by epoch.

    Args:
        prompts: To train on.
        user_id: The user.
        validation: Further ones, to validate on; none leaves it to :meth:`held_out`.
    """

    def __init__(self, prompts: Sequence[str], user_id: str, validation: Sequence[str] = ()):
        self.prompts = tuple(check_prompts(prompts))
        self.validation = tuple(check_prompts(validation)) if validation else ()
        self.user_id = user_id

    @property
    def fingerprint(self) -> str:
        """Hash of the prompts to train on, in their order. A run with another fingerprint is another run."""
        return _hash(self.prompts)

    @property
    def validation_fingerprint(self) -> str:
        """Hash of the prompts to validate on, in their order."""
        return _hash(self.validation)

    @property
    def watched(self) -> tuple[str, ...]:
        """Prompts to validate on: those kept apart, else the training's own."""
        return self.validation or self.prompts

    def held_out(self, settings: ValidationSettings, split: bool = True) -> PromptSource:
        """Return the source with prompts to validate on that are not trained on.

        They are the settings' file, else those that the source has, else every fifth of its different prompts where there are
        ten or more; with fewer, or where nothing is validated, it stays as it is. Doing it twice changes nothing.

        Args:
            settings: Of the validation.
            split: Whether prompts may be taken out of training; those of rated images may not.

        Raises:
            ConfigError: A prompt of the file is trained on.
            DataError: The file is missing or holds no prompt.
        """
        if settings.prompts is not None:
            validation = read_prompts(settings.prompts)
            both = [prompt for prompt in dict.fromkeys(validation) if prompt in set(self.prompts)]
            if both:
                raise ConfigError(
                    f"{len(both)} of the prompts in validation.prompts, {settings.prompts}, are trained on, e.g. {both[0]!r}; "
                    "validation needs others: take them out of one of both lists."
                )
            return PromptSource(self.prompts, self.user_id, validation)
        different = list(dict.fromkeys(self.prompts))
        if self.validation or not split or not settings.samples or len(different) < LEAST_TO_SPLIT:
            return self
        held = different[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        return PromptSource([prompt for prompt in self.prompts if prompt not in set(held)], self.user_id, held)

    def told(self) -> str:
        """Say in a clause what validation is on."""
        if self.validation and not set(self.validation) & set(self.prompts):
            return f"on {len(set(self.validation))} prompts that are not trained on"
        return f"on the training's own {len(set(self.prompts))} prompts: none are kept apart"

    def draw(self, iteration: int, num_prompts: int, group_size: int, seed: int) -> PromptBatch:
        """Draw the prompts of an iteration, ``group_size`` times each. The result depends only on the arguments."""
        import torch

        chosen = rows_by_epoch(len(self.prompts), iteration * num_prompts, num_prompts, seed)
        prompts = tuple(self.prompts[row] for row in chosen for _ in range(group_size))
        # a prompt that is drawn twice in an iteration forms one group, since its pictures are comparable
        groups = torch.tensor(chosen).repeat_interleave(group_size)
        return PromptBatch(prompts, (self.user_id,) * len(prompts), groups, torch.arange(len(prompts)))


def _hash(prompts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
