"""From the rows of a dataset, with images inside or beside it, to ratings or choices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pamela_rl.data.images import ImageStore
from pamela_rl.data.scales import rating_of_name
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.annotations import as_tables, in_order
from pamela_rl.data.sources.argilla import annotations_of, is_export
from pamela_rl.data.sources.exports import Source, choices_of, named, ratings_of
from pamela_rl.data.sources.pick_a_pic import is_pick_a_pic, labelled_choices
from pamela_rl.errors import DataError


def read_rows(
    rows: pd.DataFrame, fields: Sequence[str], source: str, store: ImageStore, settings: SourceSettings
) -> Source:
    """Return the ratings or choices in the rows of a dataset.

    Args:
        rows: Those of all splits that are read; ``split`` has our names of them, if any.
        fields: Columns of images, which hold their ids in the store; empty if the columns must be found by name.
        source: The dataset, for messages.
        store: Where the images are.
        settings: Of the source.

    Raises:
        DataError: There are neither ratings nor choices, or a row is wrong; names the row and the remedy.
    """
    if is_pick_a_pic(rows.columns):
        rows = labelled_choices(rows, source)
        return choices_of(rows, source, store, settings, named(rows, settings))
    if is_export(rows.columns):
        records = rows.to_dict("records")
        sheets = annotations_of(source, [{str(k): v for k, v in row.items()} for row in records], tuple(fields))
        ratings, choices = as_tables(sheets, settings.columns)
        if ratings is not None:
            return ratings_of(ratings, source, store, settings, named(ratings, settings))
        assert choices is not None
        return choices_of(choices, source, store, settings, named(choices, settings))
    told = {ours: name for ours, name in settings.columns.items() if name}
    if "image_a" in told or (len(fields) == 2 and "image" not in told):
        pair = (told["image_a"], told["image_b"]) if "image_b" in told else in_order(fields, (), source)
        return choices_of(rows, source, store, settings, {**told, "image_a": pair[0], "image_b": pair[1]})
    if len(fields) > 1 and "image" not in told:
        raise DataError(
            f"{source} has {len(fields)} columns of images, {', '.join(map(repr, fields))}; say which one was rated with "
            f"--source.image_column {fields[0]!r}."
        )
    image = {"image": fields[0]} if fields else {}
    return ratings_of(rows, source, store, settings, {**image, **settings.columns})


def with_label_names(rows: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the rows with the names of labels in place of their numbers, which count from 0.

    A label "4 stars" becomes "4".

    Args:
        rows: Of a dataset.
        names: The names of the labels of a column, by column.
    """
    written: dict[str, Any] = {}
    for column, labels in names.items():
        numbers = [rating_of_name(label) for label in labels]
        if all(isinstance(number, float) for number in numbers) and any(re.search(r"[a-z]", text) for text in labels):
            labels = [f"{number:g}" for number in numbers]
        text = dict(enumerate(labels))
        written[column] = [text.get(code) for code in rows[column]]
    return rows.assign(**written)
