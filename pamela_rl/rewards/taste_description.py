"""A user's taste in words: effects of phrases on the predicted rating, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.errors import DataError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.phrase_detection import PhraseProbabilities, detect_phrases
from pamela_rl.rewards.preference import ImageFeatures

MIN_IMAGES_PER_PHRASE = 5.0  # expected number of pictures with a phrase, and without it, that is needed to report it
_RIDGE = 1.0  # keeps the regression stable for phrases that often occur together


@runtime_checkable
class PosteriorSampler(Protocol):
    """A model that can sample a user's taste from its posterior."""

    def sample(self, images: ImageFeatures, user_id: str, count: int, seed: int = 0) -> Tensor:
        """Draw expected ratings of pictures, one taste per draw, ``(count, n)``."""
        ...


@dataclass(frozen=True)
class PhraseEffect:
    """Effect of a phrase on a user's predicted rating, compared with the other phrases of its attribute.

    Attributes:
        attribute: E.g. "lighting".
        phrase: E.g. "at night".
        effect: In rating points.
        low: Lower end of its 95 % interval.
        high: Upper end.
        population_effect: The effect on the average rating.
    """

    attribute: str
    phrase: str
    effect: float
    low: float
    high: float
    population_effect: float

    @property
    def personal_effect(self) -> float:
        """The user's effect minus that on the average rating, in rating points."""
        return self.effect - self.population_effect

    @property
    def words(self) -> str:
        """The phrase in a sentence about a user: "a close-up", "at night"."""
        return self.phrase.removesuffix(" of")


@dataclass(frozen=True)
class TasteDescription:
    """A user's taste in words and in pictures.

    Attributes:
        user_id: The user.
        effects: Effects of phrases, most liked first.
        most_liked: Rows of the reference pictures with the highest predicted rating relative to the average rating.
        least_liked: Rows of those with the lowest, lowest first.
        includes_uncertainty: Whether intervals include the posterior uncertainty of the taste, or only the sampling of
            pictures.
        undetected: Why no phrase could be detected, as the end of a sentence about the user; empty where some were.
    """

    user_id: str
    effects: tuple[PhraseEffect, ...]
    most_liked: tuple[int, ...]
    least_liked: tuple[int, ...]
    includes_uncertainty: bool
    undetected: str = ""

    def likes(self) -> list[PhraseEffect]:
        """List the effects whose interval is above 0, largest first."""
        return [effect for effect in self.effects if effect.low > 0]

    def dislikes(self) -> list[PhraseEffect]:
        """List the effects whose interval is below 0, largest first."""
        return [effect for effect in reversed(self.effects) if effect.high < 0]

    def sentence(self, count: int = 3) -> str:
        """Return a sentence, e.g. "likes at night, in earthy colours; dislikes at noon".

        Args:
            count: Most phrases for likes and for dislikes.
        """
        parts = []
        for verb, effects in (("likes", self.likes()), ("dislikes", self.dislikes())):
            if effects[:count]:
                parts.append(f"{verb} {', '.join(effect.words for effect in effects[:count])}")
        return "; ".join(parts) or self.undetected or "likes nothing in particular"

    def table(self) -> str:
        """Return the effects as a text table, in rating points."""
        rows = [("phrase", "attribute", "effect", "95 % interval", "people on average")]
        for row in self.effects:
            interval = f"[{row.low:+.2f}, {row.high:+.2f}]"
            numbers = (f"{row.effect:+.2f}", interval, f"{row.population_effect:+.2f}")
            rows.append((row.phrase, row.attribute, *numbers))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, and the sentence."""
        return {**asdict(self), "sentence": self.sentence()}


@torch.no_grad()
def describe_taste(
    reward: PersonalReward,
    user_id: str,
    images: Tensor,
    prompts: Sequence[str],
    phrasebook: Phrasebook,
    *,
    num_draws: int = 1000,
    seed: int = 0,
    exemplars: int = 4,
) -> TasteDescription:
    """Describe a user's taste by the effect of each phrase on the predicted ratings of reference pictures.

    Effects are from a linear regression of the predicted ratings on the detected phrases of all attributes. Intervals
    include the sampling of pictures (bootstrap) and, if the model can sample tastes, the posterior uncertainty. Phrases
    in too few pictures, and attributes that cannot be detected, are left out.

    Intervals do not include errors of the reward or its encoder, so they are too narrow, the more so with more pictures.
    On the world they contained half to two thirds of the true effects on drawn scenes, and nine in ten of the effects
    whose interval excluded 0 had the right sign.

    Args:
        reward: A reward that knows the user.
        user_id: The user.
        images: Reference pictures, RGB in [0, 1], ``(n, 3, height, width)``; some hundreds, e.g. the base model's.
        prompts: Prompt of each picture.
        phrasebook: Phrases to detect.
        num_draws: Number of draws of the bootstrap and of tastes.
        seed: Of the draws.
        exemplars: Number of most and of least liked pictures to list.

    Raises:
        DataError: There are too few pictures, or prompts and pictures do not pair up.
        UnknownUserError: The reward does not know the user.
    """
    if len(images) != len(prompts) or len(images) < 2 * MIN_IMAGES_PER_PHRASE:
        raise DataError(
            f"{len(images)} reference pictures and {len(prompts)} prompts were given to describe a taste; "
            f"give one prompt a picture and at least {2 * MIN_IMAGES_PER_PHRASE:.0f}, better some hundred."
        )
    image_features = _features(reward, images, prompts)
    expected = reward.model.predict(image_features, [user_id] * len(images)).mean.cpu().double()
    average = reward.model.predict_population(image_features).cpu().double()
    includes_uncertainty = isinstance(reward.model, PosteriorSampler)
    sampled = expected.expand(num_draws, -1)
    if isinstance(reward.model, PosteriorSampler):
        sampled = reward.model.sample(image_features, user_id, num_draws, seed)
    detected = detect_phrases(reward.encoder, image_features.features, prompts, phrasebook)
    effects = _phrase_effects(detected, expected, average, sampled, seed) if detected else []
    undetected = ""
    if not detected and not reward.encoder.reads_prompts:
        undetected = (
            "has no taste in words, because the prompts of the reference images name no phrase and the encoder "
            f"{reward.encoder.name!r} has no text tower to find phrases in images"
        )
    order = (expected - average).argsort(stable=True).tolist()
    ranked = tuple(sorted(effects, key=lambda row: -row.effect))
    return TasteDescription(
        user_id, ranked, tuple(order[::-1][:exemplars]), tuple(order[:exemplars]), includes_uncertainty, undetected
    )


def _features(reward: PersonalReward, images: Tensor, prompts: Sequence[str], batch_size: int = 64) -> ImageFeatures:
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    return ImageFeatures(torch.cat([reward.features(images[part], prompts[part]).features for part in parts]))


def _phrase_effects(
    detected: Sequence[PhraseProbabilities], expected: Tensor, average: Tensor, sampled: Tensor, seed: int
) -> list[PhraseEffect]:
    probabilities = torch.cat([part.probabilities for part in detected], dim=1)
    whole = torch.ones(1, len(expected), dtype=torch.float64)
    own, population = (_effects(detected, whole, ratings[None])[0] for ratings in (expected, average))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(expected), (len(sampled), len(expected)), generator=generator)
    # number of times that each picture was drawn
    times = torch.zeros_like(sampled).scatter_add_(1, chosen, torch.ones_like(sampled))
    low, high = _effects(detected, times, sampled).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    names = [(part.attribute, phrase) for part in detected for phrase in part.phrases]
    totals = probabilities.sum(dim=0)
    enough = (totals >= MIN_IMAGES_PER_PHRASE) & (len(expected) - totals >= MIN_IMAGES_PER_PHRASE)
    numbers = zip(names, *(column.tolist() for column in (own, low, high, population, enough)), strict=True)
    return [PhraseEffect(*name, *effects) for name, *effects, is_common in numbers if is_common]


def _effects(detected: Sequence[PhraseProbabilities], weights: Tensor, ratings: Tensor) -> Tensor:
    """Regress ratings on detected phrases, and compare each phrase with the others of its attribute.

    Args:
        detected: Phrase probabilities of n pictures, p phrases in all.
        weights: Weights of the pictures, ``(draws, n)``.
        ratings: ``(draws, n)``.

    Returns:
        In rating points, ``(draws, p)``.
    """
    probabilities = torch.cat([part.probabilities for part in detected], dim=1)
    total = weights.sum(dim=1, keepdim=True)
    mean_probabilities = weights @ probabilities / total  # (draws, p)
    products = (probabilities[:, :, None] * probabilities[:, None, :]).flatten(1)
    second = (weights @ products).view(len(weights), *mean_probabilities.shape[1:], -1)
    second = second - total[:, :, None] * mean_probabilities[:, :, None] * mean_probabilities[:, None, :]
    level = (weights * ratings).sum(dim=1, keepdim=True) / total
    covariance = (weights * (ratings - level)) @ probabilities
    ridge = _RIDGE * torch.eye(probabilities.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(second + ridge, covariance[:, :, None]).squeeze(-1)
    parts = []
    widths = [len(part.phrases) for part in detected]
    for slope, share in zip(slopes.split(widths, dim=1), mean_probabilities.split(widths, dim=1), strict=True):
        mean = (slope * share).sum(dim=1, keepdim=True)
        others = (mean - slope * share) / (1 - share).clamp(min=1e-9)
        parts.append(slope - others)
    return torch.cat(parts, dim=1)
