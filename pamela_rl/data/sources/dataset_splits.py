"""Splits of a dataset by somebody else, and which of them are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from pamela_rl.data.ratings import SPLITS
from pamela_rl.errors import DataError

WORDS = ("train", "validation", "valid", "val", "dev", "test")  # that names of splits begin with


def split_of(file: str) -> str:
    """Return the split that a file belongs to by its name or folder, or "" if they name none.

    The Hugging Face hub writes ``data/train-00000-of-00002.parquet`` and ``default/train/0000.parquet``; an image folder
    has ``train/metadata.csv``.
    """
    path = PurePosixPath(file)
    stem = re.sub(r"-\d+-of-\d+.*$", "", path.name.split(".")[0]).removeprefix("parquet-")
    for name in (stem, *reversed(path.parts[:-1])):
        if name in SPLITS or re.match(rf"({'|'.join(WORDS)})(_\w+)?$", name):
            return name
    return ""


def choose_splits(names: Sequence[str], wanted: str | None, source: str) -> dict[str, str | None]:
    """Return the splits to read, to their names in our tables.

    Several with names of ours keep them. Of others, one is read, or those that are wanted together; they have no name
    then, and the fit draws its own splits.

    Args:
        names: All there are; "" is no name.
        wanted: One of them, or several as "train+validation"; None is all, if there is one or they have our names.
        source: The dataset, for messages.

    Raises:
        DataError: There is no such split, or there are several and none is wanted.
    """
    names = list(dict.fromkeys(names))
    told = ", ".join(repr(name) for name in names if name)
    if wanted is not None:
        chosen = [name.strip() for name in wanted.split("+")]
        for name in chosen:
            if name not in names:
                raise DataError(f"{source} has no split {name!r}; it has {told or 'none'}. Correct source.split.")
        return dict.fromkeys(chosen, None)
    if len(names) == 1:
        return dict.fromkeys(names, None)
    if all(name in SPLITS for name in names):
        return {name: name for name in names}
    example = "+".join(name for name in names[:2] if name)
    raise DataError(
        f"{source} has the splits {told}; say which to read with --source.split, e.g. {names[0] or names[1]!r}, or "
        f"several as {example!r}."
    )
