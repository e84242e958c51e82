"""What annotation tools export, in one form: answer sheets with the images they are about and the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd

from pamela_rl.data.choice_values import FIRST, SECOND, TIE
from pamela_rl.data.columns import plain
from pamela_rl.data.embedded_images import InlineImages
from pamela_rl.data.image_names import FoundImages, is_image
from pamela_rl.data.images import ImageStore
from pamela_rl.data.scales import rating_of_name
from pamela_rl.errors import DataError

ORDERS = (("a", "b"), ("left", "right"), ("0", "1"), ("1", "2"), ("first", "second"))  # ends of the names of a pair
ADDRESS = re.compile(r"(data:image/|/data/upload/|/data/local-files/|https?://|s3://|gs://)", re.IGNORECASE)
STORED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the name of an uploaded file


@dataclass(frozen=True)
class Annotations:
    """Answer sheets, each of one user about one image or one pair of images.

    Attributes:
        source: The file, for messages.
        rows: What was shown and what was answered, by name, and ``user_id``.
        questions: Names of what was answered, in order of appearance.
        remedy: How to export something that can be read, for messages.
        shown: The fields a question is about, in their order, where the export says so.
        fields: Those that name images; None are those that hold paths or addresses of images wherever they hold anything.
    """

    source: str
    rows: list[dict[str, Any]]
    questions: tuple[str, ...]
    remedy: str
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fields: tuple[str, ...] | None = None

    def images(self) -> tuple[str, ...]:
        """Return the fields that name images."""
        if self.fields is not None:
            return self.fields
        names = dict.fromkeys(name for row in self.rows for name in row if name not in (*self.questions, "user_id"))
        return tuple(name for name in names if _always(is_address, self.values(name)))

    def values(self, name: str) -> list[Any]:
        """Return what the sheets hold under a name, without blanks."""
        values = (row.get(name) for row in self.rows)
        return [value for value in values if value is not None and value != ""]


def as_tables(annotations: Annotations, told: Mapping[str, str]) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Return a table of ratings, if the sheets show one image, or of choices, if they show two; the other is None.

    The columns are ``user_id``, ``image`` and ``rating``, or ``user_id``, ``image_a``, ``image_b`` and ``choice``, and all
    other fields. Sheets without an answer are left out.

    Args:
        annotations: The answer sheets.
        told: Names of fields and questions by these names of columns, where they cannot be known.

    Raises:
        DataError: No field holds images, or no question or several can be the rating or the choice.
    """
    fields = annotations.images()
    told = {ours: name for ours, name in told.items() if name}
    if "image_a" in told or "choice" in told or ("image" not in told and len(fields) == 2):
        return None, _choices(annotations, fields, told)
    if len(fields) != 1 and "image" not in told:
        raise DataError(
            f"{annotations.source} shows {len(fields)} images a task"
            + (f", {', '.join(map(repr, fields))}; say which one was rated with --source.columns.image {fields[0]!r}."
               if fields else f", and ratings of one image or choices between two are read; {annotations.remedy}.")
        )  # fmt: skip
    return _ratings(annotations, told.get("image") or fields[0], told), None


def local_name(address: str) -> str:
    """Return the path of an image in the folder it came from, for an address of an annotation tool.

    ``/data/upload/…`` and ``/data/local-files/?d=…`` are Label Studio's; of addresses in the web and in cloud storage,
    what is before the path is left out. A name without an address stays, and so does an image written as ``data:``.
    """
    if address.startswith("data:") or not ADDRESS.match(address):
        return address
    parts = urlsplit(address)
    if parts.path.endswith("/local-files/"):
        return parse_qs(parts.query).get("d", [parts.path])[0]
    return unquote(parts.path).lstrip("/").removeprefix("data/")


def in_order(fields: Sequence[str], shown: Sequence[str], source: str) -> tuple[str, str]:
    """Return the fields of the left and the right image: as the export orders them, or by the ends of their names.

    Raises:
        DataError: Neither says which is which.
    """
    if len(fields) == 2:
        for order in ([_end(name) for name in shown], *ORDERS):
            ends = {_end(name): name for name in fields}
            if set(order) == set(ends) and len(order) == 2:
                return ends[order[0]], ends[order[1]]
    raise DataError(
        f"{source} shows the images {', '.join(map(repr, fields))} and does not say which is on the left; say so with "
        "--source.columns.image_a FIELD --source.columns.image_b FIELD."
    )


def is_address(value: object) -> bool:
    """Return whether a value is the path or address of an image, or an image written as ``data:``."""
    return isinstance(value, str) and (bool(ADDRESS.match(value)) or is_image(value.partition("?")[0]))


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a JSON list; what is no list has none."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def fields_of(value: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def find_images(
    rows: pd.DataFrame, columns: Sequence[str], source: str, store: ImageStore
) -> tuple[pd.DataFrame, ImageStore]:
    """Return the rows with addresses as names of images in the store, and the store.

    Where all images are written into the file, that is a store of its own, and the names are digests.
    """
    names = {value: local_name(value) for column in columns for value in rows[column] if isinstance(value, str)}
    if names and all(name.startswith("data:") for name in names.values()):
        inline = InlineImages(source)
        names = {value: inline.put_by_digest(value) for value in names}
        store = inline
    else:
        found = FoundImages(store, list(names.values()))
        uploaded = {name for name in names.values() if found.missing_reason(name)}
        names = {value: _before_upload(name) if name in uploaded else name for value, name in names.items()}
    return rows.assign(**{column: [names.get(value, value) for value in rows[column]] for column in columns}), store


def _ratings(annotations: Annotations, image: str, told: Mapping[str, str]) -> pd.DataFrame:
    question = _question(annotations, told, "rating", "a number or like and dislike", _is_rating)
    answered = (row for row in annotations.rows if row.get(question) not in (None, ""))
    rows = [row | {"image": row.get(image), "rating": _rating(row[question])} for row in answered]
    return _table(rows, {image, question}, ("image", "rating"))


def _choices(annotations: Annotations, fields: Sequence[str], told: Mapping[str, str]) -> pd.DataFrame:
    question = _question(annotations, told, "choice", "left or right", lambda value: _side(value, fields) is not None)
    if "image_a" in told and "image_b" in told:
        pair = told["image_a"], told["image_b"]
    else:
        pair = in_order(fields, annotations.shown.get(question, ()), annotations.source)
    answered = (row for row in annotations.rows if row.get(question) not in (None, ""))
    rows = [
        row
        | dict(zip(("image_a", "image_b"), (row.get(name) for name in pair)))
        | {"choice": _side(row[question], pair) or row[question]}
        for row in answered
    ]
    return _table(rows, {*pair, question}, ("image_a", "image_b", "choice"))


def _table(rows: list[dict[str, Any]], used: set[str], columns: tuple[str, ...]) -> pd.DataFrame:
    named = any(row.get("user_id") is not None for row in rows)
    wanted = ("user_id", *columns) if named else columns
    others = dict.fromkeys(name for row in rows for name in row if name not in (*used, *columns, "user_id"))
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in (*wanted, *others)})


def _question(
    annotations: Annotations, told: Mapping[str, str], ours: str, kind: str, fits: Callable[[Any], bool]
) -> str:
    """Return the question whose answers fit.

    Raises:
        DataError: None does, or several do.
    """
    if ours in told:
        if told[ours] in annotations.questions:
            return told[ours]
        fitting = []
    else:
        fitting = [name for name in annotations.questions if _always(fits, annotations.values(name))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(
            f"{annotations.source} asks {len(fitting)} questions that could be the {ours}: "
            f"{', '.join(map(repr, fitting))}; say which with --source.columns.{ours} {fitting[0]!r}."
        )
    answers = {name: annotations.values(name) for name in annotations.questions}
    asked = [f"{name!r}, answered {str(given[0])[:40]!r}" for name, given in answers.items() if given]
    raise DataError(
        f"{annotations.source} holds no {ours}, which is {kind}: it holds {'; '.join(asked) or 'no answer'}; "
        f"{annotations.remedy}."
    )


def _end(name: str) -> str:
    """Return what tells a field from the other of a pair: "1" of "img-1" and "image1", "left" of "left_image"."""
    parts = re.findall(r"left|right|first|second|[0-9]+|(?<![a-z])[ab]$", plain(name))
    return parts[-1] if parts else plain(name)


def _side(answer: object, pair: Sequence[str]) -> str | None:
    """Return "a", "b" or "tie", or None if the answer is none of these."""
    text = plain(answer)
    for letter, name in zip("ab", pair):
        if text in (plain(name), _end(name)):
            return letter
    return "a" if text in FIRST else "b" if text in SECOND else "tie" if text in TIE else None


def _rating(value: object) -> object:
    rating = rating_of_name(value) if isinstance(value, str) else None
    return value if rating is None else rating


def _is_rating(value: object) -> bool:
    return isinstance(value, Real) or (isinstance(value, str) and rating_of_name(value) is not None)


def _always(fits: Callable[[Any], bool], values: Iterable[Any]) -> bool:
    """Return whether there are values and all of them fit."""
    values = list(values)
    return bool(values) and all(map(fits, values))


def _before_upload(name: str) -> str:
    """Return the name that a file had before it was uploaded to Label Studio."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + STORED.sub("", last)
