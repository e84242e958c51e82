"""A person's taste as a page shows it: in words with their uncertainty, in pictures, and how it came to be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste_description import MIN_IMAGES_PER_PHRASE, TasteDescription, describe_features
from pamela_rl.studio.database.schema import Answer, Picture
from pamela_rl.studio.mind import Mind
from pamela_rl.studio.progress import learning_curve
from pamela_rl.studio.web.strings import say

EXEMPLARS = 8  # pictures that are liked most, and as many that are liked least
MOST_NAMED = 3  # phrases of a sentence, for each


def portray(
    person_id: str, mind: Mind, taught: Sequence[Answer], measuring: Sequence[Answer], features: Mapping[str, Tensor],
    pictures: Sequence[Picture], book: Phrasebook,
) -> dict[str, Any]:  # fmt: skip
    """Describe a taste.

    Args:
        person_id: Whose.
        mind: What is known of it.
        taught: Answers that it learned from.
        measuring: Answers about pictures at random.
        features: Of pictures that answers are about, and of ``pictures``.
        pictures: By which phrases are judged, and among which exemplars are; those that are left out are not among them.
        book: Phrases.

    Returns:
        ``words`` with effects in rating points, ``sentence``, ``liked`` and ``disliked`` pictures as foretold, the most
        clear-cut first, and ``curve``, the share of choices foretold by number of answers.
    """
    curve = [
        {"answers": count, "right": known.right / known.of, "low": known.low, "high": known.high}
        for count, known in learning_curve(mind.eyes, taught, measuring, features)
    ]
    found: dict[str, Any] = {"words": [], "sentence": "", "liked": [], "disliked": [], "curve": curve}
    pictures = [picture for picture in pictures if picture.id in features]
    if not pictures:
        return found
    stacked = torch.stack([features[picture.id] for picture in pictures])
    order = mind.predict(stacked).mean.argsort().tolist()
    count = min(EXEMPLARS, len(order) // 2)
    found["liked"] = [pictures[row] for row in order[::-1][:count]]
    found["disliked"] = [pictures[row] for row in order[:count]]
    if len(pictures) >= 2 * MIN_IMAGES_PER_PHRASE:
        reward, prompts = mind.reward(person_id, taught), [picture.prompt for picture in pictures]
        described = describe_features(reward, person_id, ImageFeatures(stacked), prompts, book)
        found["sentence"] = _sentence(described)
        found["words"] = [
            {"phrase": e.words, "attribute": e.attribute, "effect": e.effect, "low": e.low, "high": e.high}
            for e in described.effects
        ]
    return found


def _sentence(described: TasteDescription) -> str:
    """Say what is sure."""
    if described.undetected:
        return say("progress.no_words")
    liked, disliked = (
        ", ".join(effect.words for effect in effects[:MOST_NAMED])
        for effects in (described.likes(), described.dislikes())
    )
    key = ("likes_and_dislikes" if disliked else "likes") if liked else "dislikes" if disliked else "nothing_sure"
    return say(f"progress.{key}", liked=liked, disliked=disliked)
