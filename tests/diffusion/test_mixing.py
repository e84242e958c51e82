from __future__ import annotations

import torch
from torch import Tensor

from pamela_rl.diffusion.mixing import mix_adapters


def state(seed: int, rank: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.to_q.lora_A.weight": torch.randn(rank, 6, generator=generator),
        "a.to_q.lora_B.weight": torch.randn(5, rank, generator=generator),
    }


def change(of: dict[str, Tensor]) -> Tensor:
    return of["a.to_q.lora_B.weight"] @ of["a.to_q.lora_A.weight"]


def test_one_adapter_is_its_own_mix_and_equal_ones_are_theirs() -> None:
    torch.testing.assert_close(change(mix_adapters([state(0)], [1.0])), change(state(0)), atol=1e-5, rtol=1e-5)
    twice = mix_adapters([state(0), state(0)], [0.5, 0.5])
    torch.testing.assert_close(change(twice), change(state(0)), atol=1e-5, rtol=1e-5)


def test_a_mix_is_the_best_of_its_rank_to_the_weighted_sum() -> None:
    states, weights = [state(seed) for seed in range(3)], [0.5, 0.3, 0.2]
    wanted = torch.stack([weight * change(one) for weight, one in zip(weights, states)]).sum(dim=0)
    mix = mix_adapters(states, weights)
    assert {name: value.shape for name, value in mix.items()} == {name: v.shape for name, v in states[0].items()}
    sizes = torch.linalg.svdvals(wanted)
    left = (change(mix) - wanted).square().sum()
    torch.testing.assert_close(left, sizes[2:].square().sum(), atol=1e-5, rtol=1e-4)


def test_what_fits_into_the_rank_is_kept_whole() -> None:
    states = [state(seed, rank=4) for seed in range(2)]
    for one in states:
        one["a.to_q.lora_B.weight"][:, 2:] = 0  # of rank two each
    mix = mix_adapters(states, [0.5, 0.5])
    torch.testing.assert_close(change(mix), (change(states[0]) + change(states[1])) / 2, atol=1e-5, rtol=1e-5)
