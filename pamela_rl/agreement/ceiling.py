"""Test-retest agreement of users, and the ceiling that it implies for every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.measures import NO_SCORE, Array
from pamela_rl.agreement.per_user import Agreement, agreement
from pamela_rl.data.ratings import RatingTable, require_columns
from pamela_rl.errors import DataError


@dataclass(frozen=True)
class RepeatedRatings:
    """First and second ratings of the same pictures by the same users, one pair per row.

    Attributes:
        users: User ids, ``(n,)``.
        first: First ratings, ``(n,)``.
        second: Second ratings, ``(n,)``.
    """

    users: NDArray[np.object_]
    first: Array
    second: Array


def repeated_ratings(table: RatingTable, order_by: str | None = None) -> RepeatedRatings:
    """Find pictures that a user rated more than once. Of three or more ratings the first two count.

    Args:
        table: Ratings.
        order_by: A column that orders the ratings in time (block, session, time); None takes the order of the rows.

    Raises:
        DataError: There is no such column.
    """
    rows = table.rows
    if order_by is not None:
        require_columns(rows, (order_by,), table.source)
        rows = rows.sort_values(order_by, kind="stable")
    number = rows.groupby(["user_id", "image"]).cumcount()
    first, second = (rows[number == place].set_index(["user_id", "image"])["rating"] for place in (0, 1))
    pairs = second.to_frame("second").join(first.rename("first"))
    users = pairs.index.get_level_values("user_id").to_numpy(dtype=object)
    return RepeatedRatings(users, *(pairs[side].to_numpy(dtype=np.float64, copy=True) for side in ("first", "second")))


def rerating_agreement(
    table: RatingTable, order_by: str | None = None, min_ratings: int = 5, seed: int = 0
) -> Agreement:
    """Measure the users' first ratings as predictions of their second ones.

    This is not a ceiling: the first rating is as noisy as the second, and a model that predicts the user's mean rating
    would do better (see ``implied_ceiling``).

    Args:
        table: Ratings with repeats.
        order_by: A column that orders the ratings in time; None takes the order of the rows.
        min_ratings: Users with fewer repeated pictures are left out, as are users whose second ratings are all equal.
        seed: Of the bootstrap.

    Raises:
        DataError: Nobody rated enough pictures twice, or there is no such column.
    """
    repeats = repeated_ratings(table, order_by)
    result = agreement("the same people again", repeats.first, repeats.second, repeats.users, min_ratings, seed)
    if not result.num_users:
        raise DataError(
            f"nobody in {table.source} rated {min_ratings} pictures or more twice and not all alike, so the "
            "test-retest agreement is not known; lower min_ratings, or leave out the ceiling."
        )
    return result


def implied_ceiling(rerating: Agreement, num_repeats: int = 1) -> Agreement:
    """Return the highest correlations that a model can have with ratings, given the test-retest agreement.

    If a rating is the user's true opinion plus independent noise, two ratings correlate by the reliability ``r``, the
    mean of ``n`` ratings has the reliability ``n r / (1 + (n - 1) r)`` (Spearman-Brown), and the true opinion
    correlates with that mean by the square root of its reliability.

    This assumes that the noise of the two occasions is independent and of the same size, without memory (which raises
    ``r``) or a change of mind (which lowers it). For rank correlations the formulas are an approximation. The root of
    the mean over users is taken, which is at least the mean of the roots, so the ceiling may be slightly too high.

    Args:
        rerating: The result of ``rerating_agreement``.
        num_repeats: Number of ratings of a picture by a user whose mean is predicted.
    """
    srocc, plcc = (
        (ceiling(estimate, num_repeats), ceiling(low, num_repeats), ceiling(high, num_repeats))
        for estimate, low, high in (rerating.srocc, rerating.plcc)
    )
    of = "a rating" if num_repeats == 1 else f"the mean of {num_repeats}"
    return Agreement(f"ceiling for {of}", rerating.num_users, srocc, plcc, NO_SCORE, NO_SCORE)


def ceiling(reliability: float, num_repeats: int = 1) -> float:
    """Return the correlation of a perfect prediction with the mean of a user's ratings of a picture.

    Args:
        reliability: Correlation between two single ratings; below 0 counts as 0.
        num_repeats: Number of ratings in the mean.
    """
    r = max(reliability, 0.0)
    return float((num_repeats * r / (1 + (num_repeats - 1) * r)) ** 0.5)
