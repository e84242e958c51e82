from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.evaluation.cached_generator import CachedGenerator


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        self.calls += 1
        pictures = [torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(pictures)


def test_pictures_are_drawn_once_and_look_as_people_see_them(tmp_path: Path) -> None:
    draw = Counting()
    kept = CachedGenerator(draw, tmp_path, ("ada", "own"), {"steps": 20})
    first, again = kept(["a", "b"], [1, 2]), kept(["a", "b"], [1, 2])
    assert draw.calls == 1
    assert torch.equal(first, again)
    assert torch.equal(first, (255 * draw(["a", "b"], [1, 2])).round() / 255)


def test_other_prompts_seeds_facts_people_and_arms_are_drawn_anew(tmp_path: Path) -> None:
    draw = Counting()
    kept = CachedGenerator(draw, tmp_path, ("ada", "own"), {"steps": 20})
    kept(["a"], [1])
    for other in (
        replace(kept, facts={"steps": 10}),
        replace(kept, name=("ben", "own")),
        replace(kept, name=("ada", "x")),
    ):
        before = draw.calls
        other(["a"], [1])
        assert draw.calls == before + 1
    before = draw.calls
    kept(["a"], [2])
    kept(["b"], [2])
    assert draw.calls == before + 2


def test_what_cannot_be_read_is_drawn_again(tmp_path: Path) -> None:
    draw = Counting()
    kept = CachedGenerator(draw, tmp_path, ("../../ada", "own"), {})
    whole = kept(["a"], [1])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(kept(["a"], [1]), whole)
    assert draw.calls == 2
