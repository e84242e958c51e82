from __future__ import annotations

import pytest
import torch

from pamela_rl.world.encoder import tone_words


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        ((0.02, 0.01, 0.0), "very dark warm grey"),
        ((0.98, 1.0, 1.0), "very bright cool grey"),
        ((0.9, 0.4, 0.1), "bright very warm strongly coloured"),
        ((0.3, 0.35, 0.45), "dark very cool soft coloured"),
        ((0.52, 0.45, 0.36), "bright very warm soft coloured"),
    ],
)
def test_tone_is_told_in_words(colour: tuple[float, float, float], words: str) -> None:
    images = torch.tensor(colour)[None, :, None, None].expand(2, 3, 8, 8)
    assert tone_words(images) == [words] * 2
