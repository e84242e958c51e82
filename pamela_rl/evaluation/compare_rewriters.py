"""A prompt rewriter compared with itself before it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pamela_rl.steering.rewriter import PromptRewriter, RewritingGenerator
from pamela_rl.types import ImageGenerator, Scorer


def compare_rewriters(
    rewriter: PromptRewriter,
    users: Sequence[str],
    draw: ImageGenerator,
    scorers: Mapping[str, Scorer],
    prompts: Sequence[str],
    seeds: Sequence[int],
) -> list[dict[str, str | float]]:
    """Score prompts rewritten by the trained and by the untrained rewriter, drawn from the same noise.

    Args:
        rewriter: Trained.
        users: To rewrite for.
        draw: Draws the rewritten prompts.
        scorers: By name; they score images for the prompts as they were before.
        prompts: Held out.
        seeds: Of each prompt.

    Returns:
        For each user ``user_id``, the mean of each score as ``<scorer>/untrained`` and ``<scorer>/trained``, and an
        ``example`` of a rewrite.
    """
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    requests, noise = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
    rows = []
    for user in users:
        row: dict[str, str | float] = {"user_id": user}
        for arm, rewriting in (("untrained", rewriter.untrained()), ("trained", rewriter)):
            images = RewritingGenerator(rewriting, user, draw)(requests, noise)
            for name, scorer in scorers.items():
                row[f"{name}/{arm}"] = scorer(images, requests, [user] * len(requests)).mean.mean().item()
        row["example"] = rewriter(requests[0], user, noise[0])
        rows.append(row)
    return rows
