"""Pick-a-Pic (arXiv 2305.01569): choices between two generated images of a prompt, and datasets of its layout.

From the dataset cards of yuvalkirstain/pickapic_v1, _v2 and their versions without images: ``image_0_uid``, ``image_1_uid``,
``label_0`` and ``label_1`` (1 and 0, or .5 twice for a tie), ``has_label``, ``caption``, ``user_id``, ``jpg_0`` and ``jpg_1`` with
the encoded images, and others that are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from pamela_rl.errors import DataError

logger = logging.getLogger(__name__)

UIDS = ("image_0_uid", "image_1_uid")
JPGS = ("jpg_0", "jpg_1")
LABELS = ("label_0", "label_1")


def is_pick_a_pic(columns: Iterable[str]) -> bool:
    """Return whether a table has the columns of Pick-a-Pic, with or without images."""
    return {*UIDS, *LABELS} <= set(columns)


def labelled_choices(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table of choices with the columns ``image_a``, ``image_b`` and ``choice``, and the others.

    Rows without a label are left out, and their number is logged.

    Raises:
        DataError: No row has a label.
    """
    first, second = (pd.to_numeric(rows[name], errors="coerce") for name in LABELS)
    labelled = first.notna() & second.notna()
    if "has_label" in rows.columns:
        labelled &= rows["has_label"].fillna(False).astype(bool)
    if not labelled.any():
        raise DataError(f"{source} has no row with a label; read a split that has labels, e.g. train.")
    if not labelled.all():
        logger.warning("%s: %d rows without a label are left out.", source, int((~labelled).sum()))
    choice = np.select([first > second, second > first], ["a", "b"], "tie")
    others = rows.drop(columns=[*UIDS, *LABELS]).rename(columns={"choice": "choice in file"})
    named = others.assign(image_a=rows[UIDS[0]], image_b=rows[UIDS[1]], choice=choice)
    return named[labelled]
