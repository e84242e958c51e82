"""Two hundred simulated users whose true taste is known: a function of pixels, with ideal points."""

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
from pamela_rl.world.captions import parse_prompt
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import PLACEMENTS, SUBJECTS, VIEWPOINTS

FEATURES = ("lightness", "contrast", "colourfulness", "warmth", "detail", "symmetry", "side", "size")
# mean and standard deviation of each feature over drawn scenes; ideal points are in standard deviations
_FEATURE_MEAN = (0.506, 0.118, 0.201, 0.030, 0.0162, -0.043, 0.0, 0.5)
_FEATURE_STD = (0.193, 0.037, 0.117, 0.158, 0.0050, 0.031, 0.8, 0.48)
# mean over users of the weight of each feature
_MEAN_WEIGHT = (0.50, 0.18, 0.35, 0.55, 0.15, 0.10, 0.20, 0.30)
_IDEAL_STD = (1.3, 0.7, 1.1, 1.3, 0.7, 0.6, 0.9, 1.0)
_DESCRIPTIONS = {
    "lightness": ("dark pictures", "bright pictures"),
    "contrast": ("gentle contrast", "strong contrast"),
    "colourfulness": ("muted colours", "rich colours"),
    "warmth": ("cool colours", "warm colours"),
    "detail": ("plain surfaces", "much detail"),
    "symmetry": ("uneven composition", "symmetry"),
    "side": ("the subject on the left", "the subject on the right"),
    "size": ("distant views", "close-ups"),
}
UNFAITHFUL_PENALTY = 2.5
CORRUPTION_PENALTY = 2.0
NOISE = 0.62  # of a single rating, in points of the scale, before rounding
_REGIONS = ("north", "south", "east", "west")
_GENDERS = ("female", "male", "non-binary")


@torch.no_grad()
def image_features(images: Tensor, judge: ContentJudge) -> Tensor:
    """Compute the image features that the simulated users' tastes depend on.

    Args:
        images: RGB in [0, 1], ``(b, 3, 64, 64)``.
        judge: Recognises where and how large the subject is.

    Returns:
        Standardised features in the order of ``FEATURES``, ``(b, 8)``.
    """
    red, green, blue = images.unbind(dim=1)
    luma = 0.30 * red + 0.59 * green + 0.11 * blue
    detail = luma.diff(dim=-1).abs().mean((1, 2)) + luma.diff(dim=-2).abs().mean((1, 2))
    logits = judge(images)
    placement = logits["placement"].softmax(dim=1)
    raw = torch.stack(
        [
            luma.mean((1, 2)),
            luma.flatten(1).std(dim=1),
            (images.amax(dim=1) - images.amin(dim=1)).mean((1, 2)),
            (red - blue).mean((1, 2)),
            detail,
            -(luma - luma.flip(-1)).abs().mean((1, 2)),
            placement[:, PLACEMENTS.index("right")] - placement[:, PLACEMENTS.index("left")],
            logits["viewpoint"].softmax(dim=1)[:, VIEWPOINTS.index("close")],
        ],
        dim=1,
    )
    return (raw - torch.tensor(_FEATURE_MEAN)) / torch.tensor(_FEATURE_STD)


@dataclass(frozen=True)
class Raters:
    """The simulated users. Row u of every array is user ``user_ids[u]``.

    Attributes:
        user_ids: Their ids.
        ideal: Ideal point of each feature, in standard deviations, ``(u, 8)``.
        weight: Of each feature, ``(u, 8)``.
        affinity: For each subject, ``(u, 8)``.
        bias: Leniency, in log-odds of the scale, ``(u,)``.
        scale: How much of the rating scale a user uses, ``(u,)``.
        demographics: age, gender, region and art_training, indexed by user id.
    """

    user_ids: tuple[str, ...]
    ideal: NDArray[np.float64]
    weight: NDArray[np.float64]
    affinity: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: NDArray[np.float64]
    demographics: pd.DataFrame

    def index(self, user_id: str) -> int:
        """Return a user's row.

        Raises:
            UnknownUserError: There is no user of that id.
        """
        if user_id not in self.user_ids:
            raise UnknownUserError(
                f"nobody in the world is called {user_id!r}; ids run from {self.user_ids[0]} to {self.user_ids[-1]}."
            )
        return self.user_ids.index(user_id)

    def describe(self, user_id: str, count: int = 3) -> str:
        """Describe a user's true taste in words, by the ``count`` features with the strongest preference."""
        row = self.index(user_id)
        strength = self.weight[row] * np.abs(self.ideal[row])
        strongest = np.argsort(-strength)[:count]
        likes = [_DESCRIPTIONS[FEATURES[i]][int(self.ideal[row, i] > 0)] for i in strongest]
        return f"{', '.join(likes[:-1])} and {likes[-1]}"

    def expected_ratings(self, images: Tensor, prompts: Sequence[str], judge: ContentJudge) -> Tensor:
        """Return every user's expected rating of each picture, noise-free, 1 to 5, ``(b, u)``."""
        features = image_features(images, judge).double()
        with torch.no_grad():
            logits = judge(images)
            faithful = judge.probability_of_subject(images, prompts).double()
        corrupted = logits["condition"].softmax(dim=1)[:, 1].double()
        ideal, weight = torch.from_numpy(self.ideal), torch.from_numpy(self.weight)
        distance = ((features[:, None] - ideal[None]).square().clamp(max=9.0) * weight[None]).sum(dim=2)
        typical = (weight * (1 + ideal.square()).clamp(max=9.0)).sum(dim=1)  # a typical picture's distance
        subjects = [parse_prompt(prompt).get("subject") for prompt in prompts]
        affinity = torch.zeros(len(images), len(self.user_ids), dtype=torch.float64)
        for row, subject in enumerate(subjects):
            if subject:
                affinity[row] = torch.from_numpy(self.affinity[:, SUBJECTS.index(subject)])
        penalty = UNFAITHFUL_PENALTY * (1 - faithful) + CORRUPTION_PENALTY * corrupted
        utility = torch.from_numpy(self.scale) * (typical - distance + affinity) + torch.from_numpy(self.bias)
        return 1 + 4 * torch.sigmoid(utility - penalty[:, None])

    def rate(
        self, expected_ratings: Tensor, users: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Rate each picture once, by its row's user: expected rating plus noise, rounded to 1-5, ``(b,)``.

        Args:
            expected_ratings: From ``expected_ratings``, ``(b, u)``.
            users: Row number of the user who rates each picture, ``(b,)``.
            generator: Of the noise.
        """
        own = expected_ratings[torch.arange(len(users)), torch.from_numpy(users)].numpy()
        noisy = own + NOISE * generator.standard_normal(len(users))
        return np.clip(np.rint(noisy), 1, 5).astype(np.int64)


class TrueRating:
    """The expected rating as a ``Reward``: ground truth of the simulation, for evaluation only."""

    def __init__(self, raters: Raters, judge: ContentJudge):
        self.raters = raters
        self.judge = judge

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Return each picture's expected rating by its user, 1 to 5, ``(b,)``."""
        expected = self.raters.expected_ratings(images.cpu().float(), prompts, self.judge)
        rows = torch.tensor([self.raters.index(user) for user in user_ids])
        return RewardOutput(expected[torch.arange(len(rows)), rows].float().to(images.device))


def make_raters(count: int = 200, seed: int = 7, prefix: str = "rater") -> Raters:
    """Draw simulated users: demographics first, then tastes that partly depend on them."""
    generator = np.random.default_rng(seed)
    ids = tuple(f"{prefix}-{number:03d}" for number in range(count))
    demographics = pd.DataFrame(
        {
            "age": generator.integers(19, 61, count),
            "gender": generator.choice(_GENDERS, count, p=[0.49, 0.48, 0.03]),
            "region": generator.choice(_REGIONS, count),
            "art_training": generator.choice(["none", "some", "much"], count, p=[0.6, 0.3, 0.1]),
        },
        index=pd.Index(ids, name="user_id"),
    )
    columns = [(demographics["age"].to_numpy() - 40) / 12]
    columns += [np.where(demographics["region"] == region, 1.0, 0.0) - 0.25 for region in _REGIONS]
    columns += [
        np.where(demographics["art_training"] == "none", -0.6, 0.9),
        np.where(demographics["gender"] == "female", 0.5, -0.5),
    ]
    covariates = np.stack(columns, axis=1)
    effect = generator.normal(0, 0.32, (covariates.shape[1], len(FEATURES)))
    spread = np.array(_IDEAL_STD)
    ideal = (covariates @ effect + generator.normal(0, 0.9, (count, len(FEATURES)))) * spread
    weight = np.array(_MEAN_WEIGHT) * generator.gamma(4.0, 0.25, (count, len(FEATURES)))
    return Raters(
        user_ids=ids,
        ideal=np.clip(ideal, -2.2, 2.2),
        weight=weight,
        affinity=generator.normal(0, 0.35, (count, len(SUBJECTS))),
        bias=generator.normal(0.1, 0.35, count),
        scale=generator.lognormal(-0.25, 0.25, count),
        demographics=demographics,
    )
