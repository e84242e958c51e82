"""What only the world knows of an image: its true rating, and whether it shows what its prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence

from pamela_rl.types import Scorer
from pamela_rl.world.judge import ContentJudge, Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters


def world_scorers(users: Sequence[str], faithfulness: bool = True) -> dict[str, Scorer]:
    """Load the world's own scorers.

    Args:
        users: Whom images are drawn for; only of the world's own are true ratings known.
        faithfulness: Whether the prompts are the world's, so that its content judge understands them.

    Returns:
        ``true_rating`` and ``faithfulness``, where they apply.
    """
    scorers: dict[str, Scorer] = {}
    raters = make_raters()
    if users and set(users) <= set(raters.user_ids):
        scorers["true_rating"] = TrueRating(raters, ContentJudge.load())
    if faithfulness:
        scorers["faithfulness"] = Faithfulness(ContentJudge.load())
    return scorers
