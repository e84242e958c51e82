"""How well a person is known: measured on the answers about pictures at random, which nothing was learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.special import ndtr
from scipy.stats import beta
from torch import Tensor

from pamela_rl.intervals import LEVEL
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.newcomer import next_image
from pamela_rl.studio.answers import comparisons
from pamela_rl.studio.database.schema import Answer
from pamela_rl.studio.eyes import Eyes
from pamela_rl.studio.mind import Mind, learn

MORE = 20  # answers that the outlook is about
ENOUGH_ANSWERS = 20  # with fewer, a training does not pay (docs/studio.md)
ENOUGH_RIGHT = 0.65  # share of choices that are expected to be foretold, from which on it does
WORTH_MORE = 0.02  # rise of that share for which more answers are asked for
NUM_PAIRS = 400  # over which the outlook is a mean
QUADRATURE = np.polynomial.hermite_e.hermegauss(9)


@dataclass(frozen=True)
class Known:
    """How many choices among pictures at random were foretold.

    Attributes:
        right: Foretold right.
        of: Choices; every two pictures that were rated differently are one.
        low: Lower end of the share's 95 % interval.
        high: Upper end.
    """

    right: int
    of: int
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the numbers by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Outlook:
    """What answers teach, as the taste itself expects.

    Attributes:
        right: Share of choices between two pictures that are expected to be foretold now.
        after: The same after ``MORE`` further answers.
    """

    right: float
    after: float


def measure(mind: Mind, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> Known | None:
    """Count the choices that are foretold right; None where there is none to count.

    The pairs among n rated pictures are no n (n - 1) / 2 independent choices: they weigh as many as give a count by chance
    the variance that Kendall's tau has. The interval is that of a share with every value equally likely beforehand.

    Args:
        mind: Learned from none of them.
        answers: About pictures at random.
        features: Of the pictures.
    """
    answers = [answer for answer in answers if features.keys() >= set(answer.picture_ids)]
    rated = [(answer.picture_ids[0], answer.value or 0.0) for answer in answers if answer.said == "rating"]
    pairs = [(a, b) if x > y else (b, a) for (a, x), (b, y) in combinations(rated, 2) if x != y]
    num_rated, among_ratings = len({picture for pair in pairs for picture in pair}), len(pairs)
    said = [pair for answer in answers if answer.said == "choice" for pair in comparisons(answer)]
    pairs += [(better, worse) for better, worse, outcome in said if outcome == 1]
    if not pairs:
        return None
    rows = {picture: row for row, picture in enumerate({picture for pair in pairs for picture in pair})}
    first, second = (torch.tensor([rows[pair[side]] for pair in pairs]) for side in (0, 1))
    difference, _ = mind.differences(torch.stack([features[picture] for picture in rows]), first, second)
    right = int((difference > 0).sum())
    weight = float(len(pairs) - among_ratings)
    if among_ratings:
        n = num_rated
        weight += min(among_ratings, 4.5 * n * (n - 1) / (2 * n + 5))
    share = right / len(pairs)
    likely = beta(1 + share * weight, 1 + (1 - share) * weight)
    return Known(right, len(pairs), float(likely.ppf((1 - LEVEL) / 2)), float(likely.ppf((1 + LEVEL) / 2)))


def look_ahead(mind: Mind, features: Tensor, count: int = MORE) -> Outlook:
    """Work out what further answers would teach.

    Args:
        mind: What is known.
        features: Of pictures that can be asked about, ``(n, d)``, two or more.
        count: Of further answers.
    """
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(len(features), (NUM_PAIRS,), generator=generator)
    second = (first + torch.randint(1, len(features), (NUM_PAIRS,), generator=generator)) % len(features)
    mean, variance = (part.numpy() for part in mind.differences(features, first, second))
    later, left = mind, list(range(len(features)))
    for _ in range(min(count, len(features))):
        images = ImageFeatures(features[left])
        row = left.pop(next_image(later.basis, later.posterior, images, ImageFeatures(features)))
        later = later.imagining(features[row : row + 1])
    _, after = (part.numpy() for part in later.differences(features, first, second))
    after = np.minimum(after, variance)
    points, weights = QUADRATURE  # over what the later answers may turn out to be
    means = mean + np.sqrt(variance - after) * points[:, None]
    then = (weights / weights.sum()) @ ndtr(np.abs(means) / np.sqrt(after))
    return Outlook(float(ndtr(np.abs(mean) / np.sqrt(variance)).mean()), float(then.mean()))


def learning_curve(
    eyes: Eyes, taught: Sequence[Answer], measuring: Sequence[Answer], features: Mapping[str, Tensor], points: int = 8
) -> list[tuple[int, Known]]:
    """Measure what was known after the first, the second, … of a person's answers, each time on all that measure.

    Args:
        eyes: What answers are seen by.
        taught: What the reward learns from, in order.
        measuring: About pictures at random.
        features: Of all the pictures.
        points: Of the curve, at most.
    """
    counts = sorted({round(count) for count in np.linspace(0, len(taught), points)})
    curve, mind = [], None
    for count in counts:
        mind = learn(eyes, mind, taught[:count], features)
        known = None if mind is None else measure(mind, measuring, features)
        if known is not None:
            curve.append((count, known))
    return curve
