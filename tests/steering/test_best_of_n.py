from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.steering.best_of_n import BestOfN, candidate_seed
from pamela_rl.types import RewardOutput, Verdict

PROMPTS, SEEDS = ["a boat", "a tree", "a boat"], [3, 3, 11]


class Grain:
    """Pictures of noise; remembers how many it was asked for at a time."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        self.calls.append(len(prompts))
        states = [seed + 7 * len(prompt) + ord(prompt[2]) for prompt, seed in zip(prompts, seeds, strict=True)]
        return torch.stack([torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in states])


def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """Ada likes bright pictures, everybody else dark ones."""
    sign = torch.tensor([1.0 if user == "ada" else -1.0 for user in user_ids])
    return RewardOutput(sign * images.mean(dim=(1, 2, 3)), images.flatten(1).std(dim=1))


def candidates(prompt: str, seed: int, count: int) -> Tensor:
    return Grain()([prompt] * count, [candidate_seed(seed, number) for number in range(count)])


@pytest.mark.parametrize("user", ["ada", "bo"])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_candidate_that_the_person_likes_best_is_kept(user: str, batch_size: int) -> None:
    grain = Grain()
    best = BestOfN(grain, brightness, user, num_candidates=6, batch_size=batch_size)
    kept = best(PROMPTS, SEEDS)
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS)):
        drawn = candidates(prompt, seed, 6)
        means = drawn.mean(dim=(1, 2, 3))
        assert torch.equal(kept[row], drawn[means.argmax() if user == "ada" else means.argmin()])
    assert max(grain.calls) <= batch_size
    assert best.images_spent == sum(grain.calls) == 18
    best(PROMPTS[:1], SEEDS[:1])
    assert best.images_spent == 24


def test_one_candidate_is_what_the_seed_itself_draws() -> None:
    assert torch.equal(BestOfN(Grain(), brightness, "ada", num_candidates=1)(PROMPTS, SEEDS), Grain()(PROMPTS, SEEDS))


def test_seeds_of_candidates_differ_and_fit_what_services_take() -> None:
    seeds = [candidate_seed(seed, number) for seed in (0, 1, 2**31 - 1) for number in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [seeds[0], seeds[50], seeds[100]] == [0, 1, 2**31 - 1]


def scoring(values: Sequence[float]) -> BestOfN:
    """Rewards that go by the place in the one call there is."""
    return BestOfN(Grain(), lambda *_: RewardOutput(torch.tensor(values)), "ada", num_candidates=len(values))


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        ([1.0, 1.0, 1.0], 0),
        ([0.0, 2.0, 2.0], 1),
        ([float("nan"), -5.0, -6.0], 1),
        ([0.0, float("nan"), -1.0], 0),
        ([float("nan")] * 3, 0),
    ],
)
def test_the_first_of_a_tie_wins_and_what_is_no_number_never_does(values: list[float], winner: int) -> None:
    kept = scoring(values)(["a boat"], [5])
    assert torch.equal(kept[0], candidates("a boat", 5, 3)[winner])


def test_doubt_is_taken_off_before_candidates_are_compared() -> None:
    drawn = candidates("a boat", 3, 8)
    careful = BestOfN(Grain(), brightness, "ada", num_candidates=8, std_weight=10.0)(["a boat"], [3])
    lowered = drawn.mean(dim=(1, 2, 3)) - 10 * drawn.flatten(1).std(dim=1)
    assert torch.equal(careful[0], drawn[lowered.argmax()])
    assert int(lowered.argmax()) != int(drawn.mean(dim=(1, 2, 3)).argmax())


def test_a_judge_and_numbers_that_make_no_sense_are_refused() -> None:
    judged = BestOfN(Grain(), lambda *_: Verdict(torch.zeros(8)), "ada")  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigError, match="is a judge"):
        judged(["a boat"], [1])
    with pytest.raises(ConfigError, match="num_candidates of best-of-N is 0; use 1 or more"):
        BestOfN(Grain(), brightness, "ada", num_candidates=0)
    with pytest.raises(ConfigError, match="batch_size of best-of-N is -1"):
        BestOfN(Grain(), brightness, "ada", batch_size=-1)
