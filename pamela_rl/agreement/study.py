"""Ratings in five splits, encoded: what models are fitted to, and what they are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.measure import Rated, introduce_all
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingTable
from pamela_rl.errors import DataError
from pamela_rl.rewards.observations import OUTCOMES, choices, observations
from pamela_rl.rewards.personal import FittedOn
from pamela_rl.rewards.preference import Pictures, PreferenceModel, RatingData

HELD = ("val_seen", "test_seen", "val_unseen", "test_unseen")


@dataclass(frozen=True)
class HeldChoices:
    """Choices between two pictures that nothing was learned from.

    Attributes:
        first: Pictures a, one row a choice.
        second: Pictures b.
        outcomes: 1 where a was chosen, 0 where b was, one half for a tie, ``(n,)``.
        user_ids: Whose, ``(n,)``.
    """

    first: Pictures
    second: Pictures
    outcomes: Tensor
    user_ids: NDArray[np.object_]


@dataclass(frozen=True)
class Study:
    """What models are fitted to and measured on.

    Attributes:
        data: Training ratings and choices, ``val_seen`` to choose by.
        held: Ratings of each held-out split that is not empty.
        choices: Of known people about test pictures, or None.
        fitted_on: People and pictures that a fitted model has learned from.
    """

    data: RatingData
    held: Mapping[str, Rated]
    choices: HeldChoices | None
    fitted_on: FittedOn

    @property
    def tested(self) -> Tensor:
        """Rows of the pictures that known people rated for the test; without any, of those they were trained on."""
        held = self.held.get("test_seen")
        return self.data.train.images.unique() if held is None else torch.from_numpy(held.image_ids).unique()


def make_study(
    ratings: RatingTable,
    features: Tensor,
    image_ids: Sequence[str],
    choice_table: ChoiceTable | None = None,
    metadata: Sequence[str] = (),
    seed: int = 0,
) -> Study:
    """Turn tables with a column ``split`` into numbers.

    Args:
        ratings: With the splits of the paper.
        features: One row a picture, ``(m, d)``.
        image_ids: What each row is called in the tables.
        choice_table: Choices of the same people, split alike.
        metadata: Columns of ``ratings`` that say something about the picture, e.g. group, style and type.
        seed: That models will be fitted with.

    Raises:
        DataError: There is no training rating and no training choice.
    """
    rows = {image: row for row, image in enumerate(image_ids)}
    codes = picture_codes(ratings.rows, rows, metadata)
    pictures = Pictures(features, codes, torch.arange(len(features)))
    parts = {split: ratings.rows[ratings.rows["split"] == split] for split in ("train", *HELD)}
    chosen = {s: t.rows for s in ("train", "test_seen") for t in [choice_table.split(s)]} if choice_table else {}
    learnt = pd.concat([parts["train"]["user_id"], *(part["user_id"] for s, part in chosen.items() if s == "train")])
    users = tuple(sorted(learnt.unique()))
    if not users:
        raise DataError(f"{ratings.source} has no row in the split 'train'; there is nothing to learn from.")
    known = parts["val_seen"][parts["val_seen"]["user_id"].isin(users)]
    data = RatingData(
        pictures,
        observations(parts["train"], users, rows),
        users,
        observations(known, users, rows) if len(known) else None,
        choices(chosen["train"], users, rows) if chosen and len(chosen["train"]) else None,
        ratings.raters,
        ratings.scale,
    )
    strangers = {split: ~parts[split]["user_id"].isin(users) & (not split.endswith("unseen")) for split in HELD}
    parts |= {split: parts[split][~strangers[split]] for split in HELD}
    used = pd.concat([parts["train"], known])
    fitted_on = FittedOn(frozenset(used["user_id"]), frozenset(used["image"]), seed)
    held = {split: _rated(parts[split], pictures, rows) for split in HELD if len(parts[split])}
    tested = chosen["test_seen"][chosen["test_seen"]["user_id"].isin(users)] if chosen else None
    return Study(data, held, None if tested is None or tested.empty else _held(tested, pictures, rows), fitted_on)


def knowing(study: Study, model: PreferenceModel, split: str, count: int) -> PreferenceModel:
    """Introduce the newcomers of an unseen split by ``count`` of their ratings of the other one's pictures."""
    other = {"val_unseen": "test_unseen", "test_unseen": "val_unseen"}.get(split)
    if other is None:
        return model
    people = people_in(study.held[split])
    if other not in study.held:
        return introduce_all(model, study.held[split], people, 0, study.data.reported)
    return introduce_all(model, study.held[other], people, count, study.data.reported)


def people_in(rated: Rated) -> list[str]:
    """Return everybody who rated, once."""
    return sorted({str(user) for user in rated.user_ids})


def picture_codes(table: pd.DataFrame, rows: Mapping[str, int], columns: Sequence[str]) -> Tensor | None:
    """Number the values of each column over all pictures, 0 where nothing is said, ``(m, columns)``."""
    present = [column for column in columns if column in table.columns]
    if not present:
        return None
    first = table.drop_duplicates("image")
    places = torch.tensor([rows[image] for image in first["image"]])
    codes = torch.zeros(len(rows), len(present), dtype=torch.int64)
    for number, column in enumerate(present):
        values = pd.Categorical(first[column].astype(object)).codes.astype(np.int64) + 1
        codes[places, number] = torch.from_numpy(values)
    return codes


def _rated(table: pd.DataFrame, pictures: Pictures, rows: Mapping[str, int]) -> Rated:
    places = np.array([rows[image] for image in table["image"]], dtype=np.int64)
    given = torch.from_numpy(table["rating"].to_numpy(dtype=np.float64, copy=True))
    return Rated(pictures[torch.from_numpy(places)], given, table["user_id"].to_numpy(dtype=object), places)


def _held(table: pd.DataFrame, pictures: Pictures, rows: Mapping[str, int]) -> HeldChoices:
    first, second = (torch.tensor([rows[image] for image in table[column]]) for column in ("image_a", "image_b"))
    outcomes = torch.tensor(table["choice"].map(OUTCOMES).to_numpy(dtype=np.float64))
    return HeldChoices(pictures[first], pictures[second], outcomes, table["user_id"].to_numpy(dtype=object))
