"""What only the world knows of an image: its true rating, and whether it shows what its prompt asks for."""

from __future__ import annotations

from pamela_rl.types import Scorer
from pamela_rl.world.judge import ContentJudge, Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters


def world_scorers(true_rating: bool = True, faithfulness: bool = True) -> dict[str, Scorer]:
    """Load the world's own scorers.

    Args:
        true_rating: Whether the users are the world's, so that their true ratings are known.
        faithfulness: Whether the prompts are the world's, so that its content judge understands them.

    Returns:
        ``true_rating`` and ``faithfulness``, where they apply.
    """
    scorers: dict[str, Scorer] = {}
    if true_rating:
        scorers["true_rating"] = TrueRating(make_raters(), ContentJudge.load())
    if faithfulness:
        scorers["faithfulness"] = Faithfulness(ContentJudge.load())
    return scorers
