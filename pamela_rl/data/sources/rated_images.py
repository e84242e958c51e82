"""What every source returns, and how its rows become it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pamela_rl.data.checks import OnBadRow, Problem, SkippedRows, as_text, check_on_bad_row, log_skipped, screen
from pamela_rl.data.images import ImageStore
from pamela_rl.data.ratings import REQUIRED, RatingScale, RatingTable, rating_problems
from pamela_rl.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RatedImages:
    """Ratings, and the pictures they are of.

    Attributes:
        table: One rating a row; somebody who rated a picture twice has two rows.
        images: Opens any picture of the table.
        skipped: What was left out because it was wrong; empty unless bad rows were to be skipped.
    """

    table: RatingTable
    images: ImageStore
    skipped: tuple[SkippedRows, ...] = ()

    @property
    def image_ids(self) -> list[str]:
        """Every rated picture once, in order of first appearance."""
        return [str(image) for image in self.table.rows["image"].drop_duplicates()]

    def pictures(self) -> Iterator[tuple[str, Image.Image]]:
        """Decode every rated picture once, when its turn comes.

        Raises:
            DataError: A picture is broken; names it.
        """
        return ((image, self.images.open(image)) for image in self.image_ids)

    def split(self, name: str) -> RatedImages:
        """Return one of the five splits.

        Raises:
            DataError: There is no such split, or the table has none.
        """
        return replace(self, table=self.table.split(name))

    def for_user(self, user_id: str) -> RatedImages:
        """Return what one person rated.

        Raises:
            UnknownUserError: Nobody of that id rated.
        """
        return replace(self, table=self.table.for_user(user_id))


@dataclass(frozen=True)
class Part:
    """Rows of one file.

    Attributes:
        source: The file, for messages.
        rows: As in the file, labelled by their place in it.
        columns: What the file calls the columns that a rating table names otherwise: ours to the file's.
        skipped: Lines of the file that are no row.
    """

    source: str
    rows: pd.DataFrame
    columns: Mapping[str, str]
    skipped: list[SkippedRows]

    def renamed(self) -> pd.DataFrame:
        """Return the rows under our names; a column that has one of them by chance becomes "… in file".

        Raises:
            DataError: A column is missing.
        """
        columns = {**dict.fromkeys(REQUIRED, ""), **self.columns}
        wanted = {ours: theirs or ours for ours, theirs in columns.items()}
        for ours, theirs in wanted.items():
            if theirs not in self.rows.columns:
                known = ", ".join(repr(str(column)) for column in self.rows.columns)
                role = "" if ours == theirs else f" for {ours}"
                raise DataError(
                    f"{self.source} has no column {theirs!r}{role}; it has {known}. "
                    f"Say which it is with columns={{{ours!r}: …}}, or name it so in the file."
                )
        others = {ours: f"{ours} in file" for ours in wanted if ours not in wanted.values()}
        return self.rows.rename(columns={**others, **{theirs: ours for ours, theirs in wanted.items()}})


def assemble(
    parts: Iterable[Part],
    source: str,
    images: ImageStore,
    scale: RatingScale | None = None,
    raters: pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Check each file's rows, and join what is right into one table.

    Raises:
        DataError: A row is wrong and ``on_bad_row`` is "stop", or nothing is left.
        ConfigError: ``on_bad_row`` is something else.
    """
    check_on_bad_row(on_bad_row)
    scale, skipped, kept = scale or RatingScale(), [], []
    for part in parts:
        rows = part.renamed()
        rows = rows.assign(**{column: as_text(rows[column]) for column in ("user_id", "image")})
        rows, wrong = screen(rows, _problems(rows, scale, images), part.source, on_bad_row, part.columns)
        kept.append(rows)
        skipped += [*part.skipped, *wrong]
    log_skipped(skipped)
    rows = pd.concat(kept, ignore_index=True) if len(kept) > 1 else kept[0]
    if rows.empty:
        raise DataError(f"{source} holds no rating" + (" that is right; see above." if skipped else "."))
    return RatedImages(RatingTable(rows, scale, raters, source), images, tuple(skipped))


def raters_of(rows: pd.DataFrame, user: str, columns: Mapping[str, str], source: str) -> pd.DataFrame:
    """Collect what people report where every rating repeats it: of each, the first that is given.

    Args:
        rows: A rating a row.
        user: The column of user ids.
        columns: What to take, and what to call it; columns that are not there are passed over.
        source: For the log, which tells how many people gave two different answers.
    """
    known = rows[rows[user].notna()]
    taken = {ours: _as_given(known[theirs]) for theirs, ours in columns.items() if theirs in known.columns}
    answers = pd.DataFrame(taken, index=known.index).groupby(as_text(known[user]).rename("user_id"), sort=False)
    for column, count in (answers.nunique() > 1).sum().items() if taken else ():
        if count:
            logger.warning("%s: %d people give more than one %s; the first is taken.", source, count, column)
    return answers.first()


def _as_given(values: pd.Series[Any]) -> pd.Series[Any]:
    """Take R's and pandas' words for nothing as nothing, and numbers for numbers."""
    known = values.mask(values.isin(["", "NA", "NaN", "nan"]))
    numbers = pd.to_numeric(known, errors="coerce")
    return numbers if (numbers.notna() == known.notna()).all() else known


def _problems(rows: pd.DataFrame, scale: RatingScale, images: ImageStore) -> Iterator[Problem]:
    yield from rating_problems(rows, scale)
    codes, names = pd.factorize(rows["image"])
    refusals = pd.Series([images.refusal(str(name)) for name in names], dtype=object)
    for remedy in refusals.dropna().unique():
        yield Problem("image", np.isin(codes, np.flatnonzero(refusals == remedy)), remedy)
