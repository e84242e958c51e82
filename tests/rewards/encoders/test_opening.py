from __future__ import annotations

import pytest
import torch

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.storage import WORLD_ENCODER


def test_world_is_the_shipped_model_and_a_folder_opens_alike(encoder: FeatureEncoder) -> None:
    images, prompts = torch.rand(2, 3, 64, 64), ["a boat", "a tree"]
    for name in ("world", str(WORLD_ENCODER)):
        opened = open_encoder(name, "cpu")
        assert opened.fingerprint == encoder.fingerprint
        torch.testing.assert_close(opened.encode(images, prompts), encoder.encode(images, prompts), atol=1e-5, rtol=0)


def test_pixels_need_no_weights() -> None:
    assert isinstance(open_encoder("pixels", "cpu"), PixelEncoder)


def test_an_unknown_name_is_refused_with_it() -> None:
    with pytest.raises(ConfigError, match="'no-such-model'"):
        open_encoder("no-such-model", "cpu")
