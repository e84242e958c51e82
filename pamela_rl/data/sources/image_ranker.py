"""The exports of image-ranker (github.com/QuentinWach/image-ranker): comparisons and rankings as CSV.

From its source: ``comparisons.csv`` has the columns ``Winner, Loser``, in which ``None`` as the winner says that an image was
removed; ``image_rankings.csv`` has ``Image, ELO, Uncertainty, Upvotes, Downvotes``, where ELO is the mean of TrueSkill, with
0 for an image that was not compared. Both name images by their path on the machine where they were ranked.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from pamela_rl.data.files import read_file
from pamela_rl.data.images import open_files
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.exports import Source, choices_of, header, named, only_table, ratings_of
from pamela_rl.errors import DataError

logger = logging.getLogger(__name__)

COMPARISONS = ["Winner", "Loser"]
RANKING = ["Image", "ELO", "Uncertainty", "Upvotes", "Downvotes"]


def recognises(path: Path) -> bool:
    """Return whether the path is one of the two files, or a folder with one."""
    return header(path) in (COMPARISONS, RANKING)


def read(path: Path, settings: SourceSettings) -> Source:
    """Read comparisons as choices, or a ranking as ratings from the lowest to the highest score.

    Comparisons tell more: in a ranking it is lost how sure each score is.

    Raises:
        DataError: The file is broken, no image was compared, or an image is not found.
    """
    is_ranking = header(path) == RANKING
    path = only_table(path, (".csv",)) or path
    rows, _ = read_file(path, None, settings.on_bad_row)
    images = open_files(settings.images or path.parent)
    if not is_ranking:
        compared = rows[rows["Winner"].str.casefold() != "none"]
        pairs = compared.rename(columns={"Winner": "image_a", "Loser": "image_b"}).assign(choice="a")
        return choices_of(pairs, str(path), images, settings, named(pairs, settings))
    scores = rows["ELO"].astype(float)
    low, high = float(scores.min()), float(scores.max())
    if not low < high:
        raise DataError(f"{path} gives every image the score {low:g}; compare images first, then export again.")
    logger.warning("%s: scores from %g to %g are read as ratings; 'Export comparisons' tells more.", path, low, high)
    scaled = replace(settings, scale=settings.scale or [low, high, 0])
    ratings = rows.rename(columns={"Image": "image"}).assign(rating=scores)
    return ratings_of(ratings, str(path), images, scaled, named(ratings, settings))
