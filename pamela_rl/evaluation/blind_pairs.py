"""Which pictures a person sees side by side: every arm against every arm, the same prompt and seed, no side favoured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.gallery import Picture


@dataclass(frozen=True)
class Pair:
    """Two pictures of one prompt and seed.

    Attributes:
        left: Of one arm.
        right: Of another.
        repeats: Place of the pair that this one shows again with the sides swapped, or None.
    """

    left: Picture
    right: Picture
    repeats: int | None = None


def choose_pairs(
    pictures: Sequence[Picture], num_pairs: int, repeated: float = 0.1, arms: Sequence[str] = (), seed: int = 0
) -> list[Pair]:
    """Choose pairs for one person, in the order in which they are shown.

    Pairs of arms come up equally often, as far as the number divides; within a pair of arms so do the prompts. Each of
    the two is on the left in half of their pairs. Pairs shown again come in the second half, from the first.

    Args:
        pictures: One person's.
        num_pairs: How many, at most; fewer where there are not so many.
        repeated: Share of them to show again, from 0 to 1/2.
        arms: Which to compare; empty for all.
        seed: Of choice, sides and order.

    Raises:
        ConfigError: A setting is out of range, an arm is not there, or no two arms share a prompt and seed.
    """
    if num_pairs < 1:
        raise ConfigError(f"num_pairs is {num_pairs}; use 1 or more, e.g. 60.")
    if not 0 <= repeated <= 0.5:
        raise ConfigError(f"repeated is {repeated}; use 0 to 0.5, e.g. 0.1.")
    rng = np.random.default_rng(seed)
    chosen = _balanced(_candidates(pictures, _known(pictures, arms)), num_pairs, rng)
    pairs = _sides(chosen, rng)
    half = (len(pairs) + 1) // 2
    again = sorted(int(place) for place in rng.permutation(half)[: round(repeated * len(pairs))])
    rest = [*pairs[half:], *(Pair(pairs[place].right, pairs[place].left, place) for place in again)]
    return [*pairs[:half], *(rest[place] for place in rng.permutation(len(rest)))]


def _known(pictures: Sequence[Picture], arms: Sequence[str]) -> list[str]:
    there = list(dict.fromkeys(picture.arm for picture in pictures))
    missing = [arm for arm in arms if arm not in there]
    if missing:
        raise ConfigError(f"arms names {missing[0]!r}, but the pictures are of {', '.join(there)}; name some of these.")
    return [arm for arm in there if not arms or arm in arms]


def _candidates(pictures: Sequence[Picture], arms: Sequence[str]) -> list[tuple[Picture, Picture]]:
    """List every two pictures of different arms that share prompt and seed, arms in a fixed order."""
    grid: dict[tuple[str, int], dict[str, Picture]] = defaultdict(dict)
    for picture in pictures:
        grid[picture.prompt, picture.seed][picture.arm] = picture
    both = [
        (drawn[one], drawn[two])
        for drawn in grid.values()
        for one, two in combinations(arms, 2)
        if one in drawn and two in drawn
    ]
    if not both:
        raise ConfigError(f"the arms {', '.join(arms)} share no prompt and seed; compare two arms or more on the same.")
    return both


def _balanced(
    candidates: list[tuple[Picture, Picture]], num_pairs: int, rng: np.random.Generator
) -> list[tuple[Picture, Picture]]:
    """Take the least seen pair of arms, of it the least seen prompt, and so on."""
    left = [candidates[int(place)] for place in rng.permutation(len(candidates))]
    of_arms: Counter[tuple[str, str]] = Counter()
    of_both: Counter[tuple[str, str, str]] = Counter()
    of_prompt: Counter[str] = Counter()
    chosen: list[tuple[Picture, Picture]] = []
    while left and len(chosen) < num_pairs:
        one, two = pair = min(
            left,
            key=lambda p: (
                of_arms[p[0].arm, p[1].arm],
                of_both[p[0].arm, p[1].arm, p[0].prompt],
                of_prompt[p[0].prompt],
            ),
        )
        left.remove(pair)
        chosen.append(pair)
        of_arms[one.arm, two.arm] += 1
        of_both[one.arm, two.arm, one.prompt] += 1
        of_prompt[one.prompt] += 1
    return chosen


def _sides(chosen: Sequence[tuple[Picture, Picture]], rng: np.random.Generator) -> list[Pair]:
    """Put each arm on the left in every second pair of its pair of arms, at random which, and shuffle."""
    turn: dict[tuple[str, str], bool] = {}
    pairs = []
    for one, two in (chosen[int(place)] for place in rng.permutation(len(chosen))):
        arms = one.arm, two.arm
        turn[arms] = not turn[arms] if arms in turn else bool(rng.integers(2))
        pairs.append(Pair(two, one) if turn[arms] else Pair(one, two))
    return [pairs[int(place)] for place in rng.permutation(len(pairs))]
