"""How well people agree with themselves when they rate a picture again, and what no model can therefore beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.measures import NO_SCORE, Array
from pamela_rl.agreement.per_person import Agreement, agreement
from pamela_rl.data.ratings import RatingTable, require
from pamela_rl.errors import DataError


@dataclass(frozen=True)
class RatedTwice:
    """First and second ratings of the same pictures by the same people, one pair a row.

    Attributes:
        users: Whose, ``(n,)``, text.
        first: ``(n,)``.
        second: ``(n,)``.
    """

    users: NDArray[np.object_]
    first: Array
    second: Array


def rated_twice(table: RatingTable, order_by: str | None = None) -> RatedTwice:
    """Find what people rated more than once; of three or more ratings the first two count.

    Args:
        table: Ratings.
        order_by: A column that tells which came first (block, session, time); None takes the order of the rows.

    Raises:
        DataError: There is no such column.
    """
    rows = table.rows
    if order_by is not None:
        require(rows, (order_by,), table.source)
        rows = rows.sort_values(order_by, kind="stable")
    number = rows.groupby(["user_id", "image"]).cumcount()
    first, second = (rows[number == place].set_index(["user_id", "image"])["rating"] for place in (0, 1))
    pairs = second.to_frame("second").join(first.rename("first"))
    users = pairs.index.get_level_values("user_id").to_numpy(dtype=object)
    return RatedTwice(users, *(pairs[side].to_numpy(dtype=np.float64, copy=True) for side in ("first", "second")))


def rate_again(table: RatingTable, order_by: str | None = None, min_ratings: int = 5, seed: int = 0) -> Agreement:
    """Measure people's first ratings as if a model had predicted the second ones from them.

    The row may stand in a table beside models'. It is no ceiling: the first rating is as noisy as the second, and a
    model that knew what a person thinks on average would do better (see ``implied_ceiling``).

    Args:
        table: Ratings in which people rated pictures twice or more.
        order_by: A column that tells which came first; None takes the order of the rows.
        min_ratings: People with fewer pictures rated twice are left out, as are those whose second ratings are all one.
        seed: Of the bootstrap.

    Raises:
        DataError: Nobody rated enough pictures twice, or there is no such column.
    """
    twice = rated_twice(table, order_by)
    result = agreement("the same people again", twice.first, twice.second, twice.users, min_ratings, seed)
    if not result.num_users:
        raise DataError(
            f"nobody in {table.source} rated {min_ratings} pictures or more twice and not all alike, so what people "
            "agree on with themselves is not known; lower min_ratings, or leave out the ceiling."
        )
    return result


def implied_ceiling(rerated: Agreement, num_repeats: int = 1) -> Agreement:
    """Return the correlations that the best possible model could have with ratings, given how people rate again.

    If a rating is what the person thinks of the picture plus noise of its own, two ratings correlate by the
    reliability ``r``, the mean of ``n`` ratings has the reliability ``n r / (1 + (n - 1) r)`` (Spearman-Brown), and
    what the person thinks correlates with that mean by its square root.

    This assumes that the noise of the two occasions is independent and alike, and that neither memory (which raises
    ``r``) nor a change of mind (which lowers it) came between them. For rank correlations the formulas are an
    approximation. The root of the mean over people is taken, which is never lower than the mean of roots: a ceiling a
    little too high, never too low for that reason.

    Args:
        rerated: What ``rate_again`` returned.
        num_repeats: Of how many ratings of a picture by the same person the mean is to be predicted.
    """
    srocc, plcc = (
        (ceiling(estimate, num_repeats), ceiling(low, num_repeats), ceiling(high, num_repeats))
        for estimate, low, high in (rerated.srocc, rerated.plcc)
    )
    of = "a rating" if num_repeats == 1 else f"the mean of {num_repeats}"
    return Agreement(f"ceiling for {of}", rerated.num_users, srocc, plcc, NO_SCORE, NO_SCORE)


def ceiling(reliability: float, num_repeats: int = 1) -> float:
    """Return the correlation of a perfect prediction with the mean of some ratings of one picture by one person.

    Args:
        reliability: Correlation between two single ratings; below 0 counts as 0.
        num_repeats: How many ratings the mean is of.
    """
    r = max(reliability, 0.0)
    return float((num_repeats * r / (1 + (num_repeats - 1) * r)) ** 0.5)
