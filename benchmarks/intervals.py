"""Coverage of the comparison's 95 % intervals, simulated: how often they hold the truth.

python benchmarks/intervals.py [TRIALS]

People and prompts are drawn anew in every trial, two images a prompt. All people share the prompts. In each setting
one standard deviation dominates: of people, of prompts, of people x prompts, or of single images.
"""

from __future__ import annotations

import sys

import numpy as np

from pamela_rl.intervals import Interval, mean_interval

PEOPLE = (4, 8, 20)
PROMPTS, IMAGES = 16, 2
SETTINGS = {
    "people": (1.0, 0.3, 0.3, 0.3),
    "prompts": (0.3, 1.0, 0.3, 0.3),
    "people x prompts": (0.3, 0.3, 1.0, 0.3),
    "images": (0.3, 0.3, 0.3, 1.0),
    "none": (1.0, 1.0, 1.0, 1.0),
}


def draw(people: int, stds: tuple[float, ...], rng: np.random.Generator) -> Interval:
    """Interval of the mean, which is 0, over people who rate images of the same prompts."""
    person, prompt, both, image = stds
    values = person * rng.normal(size=(people, 1, 1)) + prompt * rng.normal(size=(1, PROMPTS, 1))
    values = values + both * rng.normal(size=(people, PROMPTS, 1)) + image * rng.normal(size=(people, PROMPTS, IMAGES))
    users = np.arange(people).repeat(PROMPTS * IMAGES)
    prompts = np.tile(np.arange(PROMPTS).repeat(IMAGES), people)
    return mean_interval(values.ravel(), users, prompts)


def holds(interval: Interval) -> bool:
    """Whether an interval holds 0."""
    return interval.low is not None and interval.high is not None and interval.low <= 0 <= interval.high


def main(trials: int) -> None:
    """Print the share of intervals that hold the truth, a line a setting."""
    print(f"dominating std     {''.join(f'{people:>4} people' for people in PEOPLE)}")
    for name, stds in SETTINGS.items():
        rng = np.random.default_rng(0)
        shares = [np.mean([holds(draw(people, stds, rng)) for _ in range(trials)]) for people in PEOPLE]
        print(f"{name:18} {''.join(f'{share:11.3f}' for share in shares)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
