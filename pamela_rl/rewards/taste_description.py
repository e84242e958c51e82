"""Taste in words: what one person likes, from their reward, phrase by phrase, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pamela_rl.data.phrases import Phrasebook
from pamela_rl.errors import DataError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import Encoder, Pictures
from pamela_rl.rewards.shown_phrases import ShownPhrases, shown_phrases

FEWEST_SHOWN = 5.0  # pictures that must show a phrase, and that must not, for anything to be said of it
_RIDGE = 1.0  # as if one picture more said that a phrase changes nothing: keeps phrases shown together apart


@runtime_checkable
class DoubtsTaste(Protocol):
    """A model that can draw what a person may truly think, given what it knows of them."""

    def sample(self, pictures: Pictures, user_id: str, count: int, seed: int = 0) -> Tensor:
        """Draw expected ratings of pictures, one taste a draw, ``(count, n)``."""
        ...


@dataclass(frozen=True)
class Liking:
    """How much a person's predicted rating rises when a picture shows a phrase, not another one of its attribute.

    Attributes:
        attribute: E.g. "lighting".
        phrase: E.g. "at night".
        effect: In rating points.
        low: Lower end of its 95 % interval.
        high: Upper end.
        population_effect: The same for people on average.
    """

    attribute: str
    phrase: str
    effect: float
    low: float
    high: float
    population_effect: float

    @property
    def personal_effect(self) -> float:
        """What sets this person apart, in rating points: their effect less that of people on average."""
        return self.effect - self.population_effect

    @property
    def words(self) -> str:
        """The phrase as it is said of a person: "a close-up", "at night"."""
        return self.phrase.removesuffix(" of")


@dataclass(frozen=True)
class TasteInWords:
    """What one person likes, in words and in pictures.

    Attributes:
        user_id: Whose taste.
        likings: Most liked first.
        most_liked: Rows of the reference pictures that this person would like most, compared with people on average.
        least_liked: Rows of those they would like least, least first.
        holds_doubt: Whether intervals hold the model's doubt about this taste, or the choice of pictures alone.
    """

    user_id: str
    likings: tuple[Liking, ...]
    most_liked: tuple[int, ...]
    least_liked: tuple[int, ...]
    holds_doubt: bool

    def likes(self) -> list[Liking]:
        """List what the person likes beyond doubt, most first: the interval lies above 0."""
        return [liking for liking in self.likings if liking.low > 0]

    def dislikes(self) -> list[Liking]:
        """List what the person dislikes beyond doubt, most first: the interval lies below 0."""
        return [liking for liking in reversed(self.likings) if liking.high < 0]

    def sentence(self, count: int = 3) -> str:
        """Say it in words, e.g. "likes at night, in earthy colours; dislikes at noon".

        Args:
            count: Phrases at most, of what is liked and of what is disliked.
        """
        parts = []
        for verb, likings in (("likes", self.likes()), ("dislikes", self.dislikes())):
            if likings[:count]:
                parts.append(f"{verb} {', '.join(liking.words for liking in likings[:count])}")
        return "; ".join(parts) or "likes nothing in particular"

    def table(self) -> str:
        """Lay the likings out for a terminal, in rating points."""
        rows = [("phrase", "attribute", "effect", "95 % interval", "people on average")]
        for liking in self.likings:
            interval = f"[{liking.low:+.2f}, {liking.high:+.2f}]"
            numbers = (f"{liking.effect:+.2f}", interval, f"{liking.population_effect:+.2f}")
            rows.append((liking.phrase, liking.attribute, *numbers))
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
) -> TasteInWords:
    """Say what a person likes: what each phrase adds to their predicted ratings of reference pictures.

    Effects are those of a linear regression of the predicted ratings on what pictures show, all attributes at once, so
    that of two that often go together each is given its own. Intervals hold the choice of pictures (bootstrap) and,
    where the model can draw tastes, its doubt about this person. A phrase that hardly any picture shows, or an
    attribute that nothing tells apart, is left out.

    Intervals do not hold what the reward or its encoder gets wrong: they are too narrow, the
    more so the more pictures there are. On the world they held half to two thirds of the true effects on drawn scenes, and
    nine in ten of the likings said to be beyond doubt had the right sign.

    Args:
        reward: Knows the person.
        user_id: Whose taste.
        images: Reference pictures, RGB in [0, 1], ``(n, 3, height, width)``; some hundreds, e.g. the base model's.
        prompts: What was asked for, one a picture.
        phrasebook: What can be said of a picture.
        num_draws: Of the bootstrap and of tastes.
        seed: Of the draws.
        exemplars: How many pictures to name at either end.

    Raises:
        DataError: There are too few pictures, or prompts and pictures do not pair up.
        UnknownUserError: The reward does not know the person.
    """
    if len(images) != len(prompts) or len(images) < 2 * FEWEST_SHOWN:
        raise DataError(
            f"{len(images)} reference pictures and {len(prompts)} prompts were given to describe a taste; "
            f"give one prompt a picture and at least {2 * FEWEST_SHOWN:.0f}, better some hundred."
        )
    pictures = Pictures(_features(reward.encoder, images, prompts))
    expected = reward.model.predict(pictures, [user_id] * len(images)).mean.double().cpu()
    average = reward.model.predict_population(pictures).double().cpu()
    holds_doubt = isinstance(reward.model, DoubtsTaste)
    drawn = expected.expand(num_draws, -1)
    if isinstance(reward.model, DoubtsTaste):
        drawn = reward.model.sample(pictures, user_id, num_draws, seed)
    shown = shown_phrases(reward.encoder, pictures.features, prompts, phrasebook)
    likings = _likings(shown, expected, average, drawn, seed) if shown else []
    order = (expected - average).argsort(stable=True).tolist()
    ranked = tuple(sorted(likings, key=lambda liking: -liking.effect))
    return TasteInWords(user_id, ranked, tuple(order[::-1][:exemplars]), tuple(order[:exemplars]), holds_doubt)


def _features(encoder: Encoder, images: Tensor, prompts: Sequence[str], batch_size: int = 64) -> Tensor:
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    return torch.cat([encoder.encode(images[part], prompts[part]).cpu() for part in parts])


def _likings(
    shown: Sequence[ShownPhrases], expected: Tensor, average: Tensor, drawn: Tensor, seed: int
) -> list[Liking]:
    shares = torch.cat([part.shares for part in shown], dim=1)
    whole = torch.ones(1, len(expected), dtype=torch.float64)
    own, population = (_effects(shown, whole, ratings[None])[0] for ratings in (expected, average))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(expected), (len(drawn), len(expected)), generator=generator)
    times = torch.zeros_like(drawn).scatter_add_(1, chosen, torch.ones_like(drawn))  # how often each picture was drawn
    low, high = _effects(shown, times, drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    names = [(part.attribute, phrase) for part in shown for phrase in part.phrases]
    totals = shares.sum(dim=0)
    enough = (totals >= FEWEST_SHOWN) & (len(expected) - totals >= FEWEST_SHOWN)
    numbers = zip(names, *(column.tolist() for column in (own, low, high, population, enough)), strict=True)
    return [Liking(*name, *effects) for name, *effects, told in numbers if told]


def _effects(shown: Sequence[ShownPhrases], weights: Tensor, ratings: Tensor) -> Tensor:
    """Regress ratings on what pictures show, then set each phrase against the others of its attribute.

    Args:
        shown: Of n pictures, p phrases in all.
        weights: Of the pictures, ``(draws, n)``.
        ratings: ``(draws, n)``.

    Returns:
        In rating points, ``(draws, p)``.
    """
    shares = torch.cat([part.shares for part in shown], dim=1)
    total = weights.sum(dim=1, keepdim=True)
    usual = weights @ shares / total  # (draws, p)
    products = (shares[:, :, None] * shares[:, None, :]).flatten(1)
    second = (weights @ products).view(len(weights), *usual.shape[1:], -1)
    second = second - total[:, :, None] * usual[:, :, None] * usual[:, None, :]
    level = (weights * ratings).sum(dim=1, keepdim=True) / total
    crossed = (weights * (ratings - level)) @ shares
    ridge = _RIDGE * torch.eye(shares.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(second + ridge, crossed[:, :, None]).squeeze(-1)
    parts = []
    widths = [len(part.phrases) for part in shown]
    for slope, share in zip(slopes.split(widths, dim=1), usual.split(widths, dim=1), strict=True):
        mean = (slope * share).sum(dim=1, keepdim=True)
        others = (mean - slope * share) / (1 - share).clamp(min=1e-9)
        parts.append(slope - others)
    return torch.cat(parts, dim=1)
