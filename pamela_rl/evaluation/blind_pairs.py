"""Choose the pairs of a blind test: arms against arms on the same prompt and seed, balanced over arms, prompts and sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.gallery import ComparisonImage


@dataclass(frozen=True)
class Pair:
    """Two images of one prompt and seed.

    Attributes:
        left: Of one arm.
        right: Of another.
        repeats: Index of the pair that this one repeats with swapped sides, or None.
    """

    left: ComparisonImage
    right: ComparisonImage
    repeats: int | None = None


def choose_pairs(
    images: Sequence[ComparisonImage], num_pairs: int, repeated: float = 0.1, arms: Sequence[str] = (), seed: int = 0
) -> list[Pair]:
    """Choose pairs for one user, in the order in which they are shown.

    Every pair of arms occurs equally often, up to rounding, and so does every prompt within a pair of arms. Each arm is
    on the left in half of its pairs. Repeated pairs are shown in the second half and repeat pairs of the first.

    Args:
        images: One user's.
        num_pairs: Number of pairs; fewer where not so many are available.
        repeated: Share of pairs that are repeated, from 0 to 1/2.
        arms: Arms to compare; empty for all.
        seed: Of pairs, sides and order.

    Raises:
        ConfigError: A setting is out of range, an arm is missing, or no two arms share a prompt and seed.
    """
    if num_pairs < 1:
        raise ConfigError(f"num_pairs is {num_pairs}; use 1 or more, e.g. 60.")
    if not 0 <= repeated <= 0.5:
        raise ConfigError(f"repeated is {repeated}; use 0 to 0.5, e.g. 0.1.")
    rng = np.random.default_rng(seed)
    chosen = _balanced(_candidates(images, _select_arms(images, arms)), num_pairs, rng)
    pairs = _sides(chosen, rng)
    half = (len(pairs) + 1) // 2
    repeated_rows = sorted(int(row) for row in rng.permutation(half)[: round(repeated * len(pairs))])
    second_half = [*pairs[half:], *(Pair(pairs[row].right, pairs[row].left, row) for row in repeated_rows)]
    return [*pairs[:half], *(second_half[row] for row in rng.permutation(len(second_half)))]


def _select_arms(images: Sequence[ComparisonImage], arms: Sequence[str]) -> list[str]:
    available = list(dict.fromkeys(image.arm for image in images))
    missing = [arm for arm in arms if arm not in available]
    if missing:
        raise ConfigError(
            f"arms names {missing[0]!r}, but the pictures are of {', '.join(available)}; name some of these."
        )
    return [arm for arm in available if not arms or arm in arms]


def _candidates(
    images: Sequence[ComparisonImage], arms: Sequence[str]
) -> list[tuple[ComparisonImage, ComparisonImage]]:
    """List all pairs of images of different arms that share prompt and seed, arms in a fixed order."""
    grid: dict[tuple[str, int], dict[str, ComparisonImage]] = defaultdict(dict)
    for image in images:
        grid[image.prompt, image.seed][image.arm] = image
    both = [
        (by_arm[one], by_arm[two])
        for by_arm in grid.values()
        for one, two in combinations(arms, 2)
        if one in by_arm and two in by_arm
    ]
    if not both:
        raise ConfigError(f"the arms {', '.join(arms)} share no prompt and seed; compare two arms or more on the same.")
    return both


def _balanced(
    candidates: list[tuple[ComparisonImage, ComparisonImage]], num_pairs: int, rng: np.random.Generator
) -> list[tuple[ComparisonImage, ComparisonImage]]:
    """Choose pairs greedily: first the rarest pair of arms, then its rarest prompt, then the prompt rarest overall."""
    remaining = [candidates[int(row)] for row in rng.permutation(len(candidates))]
    of_arms: Counter[tuple[str, str]] = Counter()
    of_arms_and_prompt: Counter[tuple[str, str, str]] = Counter()
    of_prompt: Counter[str] = Counter()
    chosen: list[tuple[ComparisonImage, ComparisonImage]] = []
    while remaining and len(chosen) < num_pairs:
        one, two = pair = min(
            remaining,
            key=lambda p: (
                of_arms[p[0].arm, p[1].arm],
                of_arms_and_prompt[p[0].arm, p[1].arm, p[0].prompt],
                of_prompt[p[0].prompt],
            ),
        )
        remaining.remove(pair)
        chosen.append(pair)
        of_arms[one.arm, two.arm] += 1
        of_arms_and_prompt[one.arm, two.arm, one.prompt] += 1
        of_prompt[one.prompt] += 1
    return chosen


def _sides(chosen: Sequence[tuple[ComparisonImage, ComparisonImage]], rng: np.random.Generator) -> list[Pair]:
    """Alternate sides within each pair of arms, from a random start, and shuffle."""
    swapped: dict[tuple[str, str], bool] = {}
    pairs = []
    for one, two in (chosen[int(row)] for row in rng.permutation(len(chosen))):
        arms = one.arm, two.arm
        swapped[arms] = not swapped[arms] if arms in swapped else bool(rng.integers(2))
        pairs.append(Pair(two, one) if swapped[arms] else Pair(one, two))
    return [pairs[int(row)] for row in rng.permutation(len(pairs))]
