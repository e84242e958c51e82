"""Two hundred simulated people whose true taste is known: a function of pixels, with ideal points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.errors import UnknownUserError
from pamela_rl.types import RewardOutput
from pamela_rl.world.captions import asked_for
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import PLACEMENTS, SUBJECTS, VIEWPOINTS

FEATURES = ("lightness", "contrast", "colourfulness", "warmth", "detail", "symmetry", "side", "size")
# centre and spread of each feature over drawn scenes, so that an ideal point of 1 means one spread above the usual
_CENTRE = (0.506, 0.118, 0.201, 0.030, 0.0162, -0.043, 0.0, 0.5)
_SPREAD = (0.193, 0.037, 0.117, 0.158, 0.0050, 0.031, 0.8, 0.48)
# how strongly people feel about each feature, on average
_WEIGHT = (0.50, 0.18, 0.35, 0.55, 0.15, 0.10, 0.20, 0.30)
_IDEAL_SPREAD = (1.3, 0.7, 1.1, 1.3, 0.7, 0.6, 0.9, 1.0)
_WORDS = {
    "lightness": ("dark pictures", "bright pictures"),
    "contrast": ("gentle contrast", "strong contrast"),
    "colourfulness": ("muted colours", "rich colours"),
    "warmth": ("cool colours", "warm colours"),
    "detail": ("plain surfaces", "much detail"),
    "symmetry": ("uneven composition", "symmetry"),
    "side": ("the subject on the left", "the subject on the right"),
    "size": ("distant views", "close-ups"),
}
UNFAITHFUL_COST = 2.5
SPOILT_COST = 2.0
NOISE = 0.62  # of a single rating, in points of the scale, before rounding
_REGIONS = ("north", "south", "east", "west")
_GENDERS = ("female", "male", "non-binary")


@torch.no_grad()
def picture_features(images: Tensor, judge: ContentJudge) -> Tensor:
    """Measure pictures as people of the world see them.

    Args:
        images: RGB in [0, 1], ``(b, 3, 64, 64)``.
        judge: Tells where and how large the subject is.

    Returns:
        Standardised features in the order of ``FEATURES``, ``(b, 8)``.
    """
    red, green, blue = images.unbind(dim=1)
    luma = 0.30 * red + 0.59 * green + 0.11 * blue
    detail = luma.diff(dim=-1).abs().mean((1, 2)) + luma.diff(dim=-2).abs().mean((1, 2))
    seen = judge(images)
    place = seen["placement"].softmax(dim=1)
    raw = torch.stack(
        [
            luma.mean((1, 2)),
            luma.flatten(1).std(dim=1),
            (images.amax(dim=1) - images.amin(dim=1)).mean((1, 2)),
            (red - blue).mean((1, 2)),
            detail,
            -(luma - luma.flip(-1)).abs().mean((1, 2)),
            place[:, PLACEMENTS.index("right")] - place[:, PLACEMENTS.index("left")],
            seen["viewpoint"].softmax(dim=1)[:, VIEWPOINTS.index("close")],
        ],
        dim=1,
    )
    return (raw - torch.tensor(_CENTRE)) / torch.tensor(_SPREAD)


@dataclass(frozen=True)
class Raters:
    """People of the world. Row u of every array is person ``user_ids[u]``.

    Attributes:
        user_ids: Names.
        ideal: Where each person likes each feature best, in spreads, ``(u, 8)``.
        weight: How much it matters to them, ``(u, 8)``.
        affinity: Liking of each subject, ``(u, 8)``.
        bias: Kindness, in log-odds of the scale, ``(u,)``.
        scale: How much of the scale a person uses, ``(u,)``.
        demographics: What they report: age, gender, region, art_training; indexed by user id.
    """

    user_ids: tuple[str, ...]
    ideal: NDArray[np.float64]
    weight: NDArray[np.float64]
    affinity: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: NDArray[np.float64]
    demographics: pd.DataFrame

    def index(self, user_id: str) -> int:
        """Return a person's row.

        Raises:
            UnknownUserError: Nobody has that id.
        """
        if user_id not in self.user_ids:
            raise UnknownUserError(
                f"nobody in the world is called {user_id!r}; ids run from {self.user_ids[0]} to {self.user_ids[-1]}."
            )
        return self.user_ids.index(user_id)

    def describe(self, user_id: str, count: int = 3) -> str:
        """Say in words what a person truly likes: the ideal points that matter most to them."""
        row = self.index(user_id)
        strength = self.weight[row] * np.abs(self.ideal[row])
        most = np.argsort(-strength)[:count]
        likes = [_WORDS[FEATURES[i]][int(self.ideal[row, i] > 0)] for i in most]
        return f"{', '.join(likes[:-1])} and {likes[-1]}"

    def true_expectations(self, images: Tensor, prompts: Sequence[str], judge: ContentJudge) -> Tensor:
        """Return what everyone would rate each picture on average, noise-free, 1 to 5, ``(b, u)``."""
        features = picture_features(images, judge).double()
        with torch.no_grad():
            logits = judge(images)
            shown = judge.probability_of_subject(images, prompts).double()
        spoilt = logits["condition"].softmax(dim=1)[:, 1].double()
        ideal, weight = torch.from_numpy(self.ideal), torch.from_numpy(self.weight)
        distance = ((features[:, None] - ideal[None]).square().clamp(max=9.0) * weight[None]).sum(dim=2)
        usual = (weight * (1 + ideal.square()).clamp(max=9.0)).sum(dim=1)  # what a usual picture costs this person
        subjects = [asked_for(prompt).get("subject") for prompt in prompts]
        liking = torch.zeros(len(images), len(self.user_ids), dtype=torch.float64)
        for row, subject in enumerate(subjects):
            if subject:
                liking[row] = torch.from_numpy(self.affinity[:, SUBJECTS.index(subject)])
        fault = UNFAITHFUL_COST * (1 - shown) + SPOILT_COST * spoilt
        utility = torch.from_numpy(self.scale) * (usual - distance + liking) + torch.from_numpy(self.bias)
        return 1 + 4 * torch.sigmoid(utility - fault[:, None])

    def rate(self, expectations: Tensor, users: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Rate pictures once: expectation of the row's user, noise, rounding to 1-5, ``(b,)``.

        Args:
            expectations: From ``true_expectations``, ``(b, u)``.
            users: Who rates each picture, row numbers, ``(b,)``.
            generator: Source of the noise.
        """
        own = expectations[torch.arange(len(users)), torch.from_numpy(users)].numpy()
        noisy = own + NOISE * generator.standard_normal(len(users))
        return np.clip(np.rint(noisy), 1, 5).astype(np.int64)


class TrueRating:
    """The true rating as a ``Reward``: what only the world can know. Never trained against."""

    def __init__(self, raters: Raters, judge: ContentJudge):
        self.raters = raters
        self.judge = judge

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Return each picture's expected rating by its own user, 1 to 5, ``(b,)``."""
        expected = self.raters.true_expectations(images.cpu().float(), prompts, self.judge)
        rows = torch.tensor([self.raters.index(user) for user in user_ids])
        return RewardOutput(expected[torch.arange(len(rows)), rows].float().to(images.device))


def make_raters(count: int = 200, seed: int = 7, called: str = "rater") -> Raters:
    """Draw people: demographics first, then tastes that partly follow from them."""
    generator = np.random.default_rng(seed)
    ids = tuple(f"{called}-{number:03d}" for number in range(count))
    people = pd.DataFrame(
        {
            "age": generator.integers(19, 61, count),
            "gender": generator.choice(_GENDERS, count, p=[0.49, 0.48, 0.03]),
            "region": generator.choice(_REGIONS, count),
            "art_training": generator.choice(["none", "some", "much"], count, p=[0.6, 0.3, 0.1]),
        },
        index=pd.Index(ids, name="user_id"),
    )
    columns = [(people["age"].to_numpy() - 40) / 12]
    columns += [np.where(people["region"] == region, 1.0, 0.0) - 0.25 for region in _REGIONS]
    columns += [
        np.where(people["art_training"] == "none", -0.6, 0.9),
        np.where(people["gender"] == "female", 0.5, -0.5),
    ]
    reported = np.stack(columns, axis=1)
    effect = generator.normal(0, 0.32, (reported.shape[1], len(FEATURES)))
    spread = np.array(_IDEAL_SPREAD)
    ideal = (reported @ effect + generator.normal(0, 0.9, (count, len(FEATURES)))) * spread
    weight = np.array(_WEIGHT) * generator.gamma(4.0, 0.25, (count, len(FEATURES)))
    return Raters(
        user_ids=ids,
        ideal=np.clip(ideal, -2.2, 2.2),
        weight=weight,
        affinity=generator.normal(0, 0.35, (count, len(SUBJECTS))),
        bias=generator.normal(0.1, 0.35, count),
        scale=generator.lognormal(-0.25, 0.25, count),
        demographics=people,
    )
