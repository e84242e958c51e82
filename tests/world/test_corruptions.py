from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pamela_rl.world.corruptions import corrupt, soften, vary_tone
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import draw_scenes, random_scenes

Change = Callable[[Tensor, torch.Generator], Tensor]


@pytest.fixture(scope="module")
def drawings() -> Tensor:
    return torch.from_numpy(draw_scenes(random_scenes(200, 41), 42)).permute(0, 3, 1, 2).float() / 255


def changed(change: Change, images: Tensor, seed: int = 0) -> Tensor:
    return change(images, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("change", [vary_tone, soften, corrupt])
def test_changed_pictures_are_still_pictures_and_repeat_with_their_seed(change: Change, drawings: Tensor) -> None:
    before = drawings.clone()
    result = changed(change, drawings)
    assert torch.equal(drawings, before)
    assert result.shape == drawings.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(result, changed(change, drawings))
    assert not torch.equal(result, changed(change, drawings, seed=1))
    assert ((result - drawings).abs().flatten(1).amax(dim=1) > 0).all()


def test_softening_changes_little_and_spoiling_much(drawings: Tensor) -> None:
    softened, corrupted = ((changed(way, drawings) - drawings).square().mean().sqrt() for way in (soften, corrupt))
    assert softened < 0.05
    assert corrupted > 0.12


def test_varied_tone_keeps_every_edge_where_it_was(drawings: Tensor) -> None:
    light, toned = drawings.mean(dim=1).flatten(1), changed(vary_tone, drawings).mean(dim=1).flatten(1)
    likeness = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in zip(light, toned)]
    assert min(likeness) > 0.85
    assert (toned.mean(dim=1) - light.mean(dim=1)).std() > 0.05


def test_the_judge_tells_spoilt_pictures_from_softened_and_toned_ones(
    content_judge: ContentJudge, drawings: Tensor
) -> None:
    everyday = changed(soften, changed(vary_tone, drawings))
    assert content_judge.classify(everyday)["condition"].count("intact") > 0.95 * len(drawings)
    assert content_judge.classify(changed(corrupt, drawings))["condition"].count("corrupted") > 0.9 * len(drawings)


def test_a_single_picture_can_be_spoilt(drawings: Tensor) -> None:
    for seed in range(10):  # all five ways
        assert not torch.equal(changed(corrupt, drawings[:1], seed), drawings[:1])
