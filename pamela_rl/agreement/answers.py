"""Ratings and choices from any source, checked for what a reward can be learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from pamela_rl.agreement.tables import count_of
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.images import ImageStore
from pamela_rl.data.ratings import RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.contrast import with_contrast
from pamela_rl.data.sources.opening import read_source
from pamela_rl.data.splits import IMAGE_COLUMNS
from pamela_rl.errors import DataError
from pamela_rl.rewards.encoders.feature_cache import ImageEncoder, encode_store

FEW_WITHOUT_PROMPT = 0.1  # share of images that may be left out for the sake of the others' prompts


@dataclass(frozen=True)
class Answers:
    """Ratings and choices, and the images that they are about.

    Attributes:
        ratings: All ratings; may be empty.
        choices: All choices, or None.
        store: Of the images.
        images: Id of each image.
        prompts: Prompt of each image; all empty where prompts are not known or not to be used.
    """

    ratings: RatingTable
    choices: ChoiceTable | None
    store: ImageStore
    images: list[str]
    prompts: list[str]

    @property
    def people(self) -> Counter[str]:
        """Number of answers of everybody who gave any."""
        tables = (self.ratings.rows, *([] if self.choices is None else [self.choices.rows]))
        return Counter(str(user) for table in tables for user in table["user_id"])

    def encoded(self, encoder: ImageEncoder, cache: Path) -> Tensor:
        """Return features of every image, ``(m, d)``, with its prompt where there are any."""
        return encode_store(encoder, self.store, self.images, self.prompts, cache=cache)

    def without(self, images: frozenset[str]) -> Answers:
        """Return the answers about none of these images."""
        return self._where(lambda inside: ~inside.any(axis=1), images)

    def only(self, images: frozenset[str]) -> Answers:
        """Return the answers about these images alone."""
        return self._where(lambda inside: inside.all(axis=1), images)

    def _where(self, condition: Callable[[pd.DataFrame], pd.Series[bool]], images: frozenset[str]) -> Answers:
        def kept(rows: pd.DataFrame) -> pd.DataFrame:
            columns = [column for column in IMAGE_COLUMNS if column in rows.columns]
            return rows[condition(rows[columns].isin(images))]

        choices = None if self.choices is None else replace(self.choices, rows=kept(self.choices.rows))
        return replace(self, ratings=replace(self.ratings, rows=kept(self.ratings.rows)), choices=choices)


def read_answers(source: SourceSettings) -> Answers:
    """Read ratings and choices, and print how many there are.

    Raises:
        DataError: A file cannot be read, a row is wrong, or all ratings are the same.
    """
    rated, choices = read_source(source)
    if source.contrast is not None:
        rated = with_contrast(rated, source.contrast)
    require_differences(rated.table, choices)
    tables = [rated.table.rows, *([choices.rows] if choices else [])]
    images, prompts = images_and_prompts(tables)
    answers = Answers(rated.table, choices, rated.images, images, prompts)
    people = answers.people
    print(
        f"{sum(people.values()):,} answers of {count_of(len(people), 'person', 'people')} about {count_of(len(images), 'image')}."
    )
    return _with_consistent_prompts(answers)


def images_and_prompts(tables: Sequence[pd.DataFrame]) -> tuple[list[str], list[str]]:
    """Return every image once, and the prompt it was made for, empty where none is known."""
    parts = []
    for table in tables:
        prompts = table["prompt"].fillna("").astype(str) if "prompt" in table.columns else ""
        for column in IMAGE_COLUMNS:
            if column in table.columns:
                parts.append(pd.DataFrame({"image": table[column].astype(str), "prompt": prompts}))
    first = pd.concat(parts).drop_duplicates("image")
    return first["image"].tolist(), first["prompt"].tolist()


def require_differences(ratings: RatingTable, choices: ChoiceTable | None) -> None:
    """Refuse ratings that are all the same, where there are no choices.

    Raises:
        DataError: Says how to go on.
    """
    values = ratings.rows["rating"]
    if len(values) and values.nunique() == 1 and (choices is None or not len(choices.rows)):
        raise DataError(
            f"all {len(values)} ratings of {ratings.source} are {values.iloc[0]:g}, which says what is liked and nothing "
            "of what is not. Rate some images that you like less, too; or let others count as not chosen: draw some "
            "with pamela draw and give their folder as --source.contrast."
        )


def _with_consistent_prompts(answers: Answers) -> Answers:
    """Let all images have their prompts, or none: a model cannot be fitted with some and used with all."""
    images, prompts = answers.images, answers.prompts
    missing = frozenset(image for image, prompt in zip(images, prompts) if not prompt.strip())
    if not missing or len(missing) == len(images):
        return answers
    text = f"{len(missing)} of {len(images)} images have no prompt"
    if len(missing) > FEW_WITHOUT_PROMPT * len(images):
        print(f"{text}, so the reward is fitted without prompts; give them all to have it know what was asked for.")
        return replace(answers, prompts=[""] * len(images))
    print(f"{text}; answers about them are left out, since the reward knows prompts by all others.")
    return answers.without(missing)
