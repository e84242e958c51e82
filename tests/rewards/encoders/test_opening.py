from __future__ import annotations

import pytest
import torch

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.models import check_encoder
from pamela_rl.rewards.settings import (
    DEFAULT_ENCODER,
    JUDGE_ENCODER,
    MODEL_NAMES,
    PROMPT_MODELS,
    SIGLIP,
    SIGLIP_ADVICE,
)
from pamela_rl.storage import WORLD_ENCODER


def test_world_is_the_shipped_model_and_a_folder_opens_alike(encoder: FeatureEncoder) -> None:
    images, prompts = torch.rand(2, 3, 64, 64), ["a boat", "a tree"]
    for name in ("world", str(WORLD_ENCODER)):
        opened = open_encoder(name, "cpu")
        assert opened.fingerprint == encoder.fingerprint
        assert (opened.name, opened.reads_prompts) == ("world", True)
        torch.testing.assert_close(opened.encode(images, prompts), encoder.encode(images, prompts), atol=1e-5, rtol=0)


def test_pixels_need_no_weights() -> None:
    assert isinstance(open_encoder("pixels", "cpu"), PixelEncoder)


def test_an_unknown_name_is_refused_with_it() -> None:
    with pytest.raises(ConfigError, match="'no-such-model'"):
        open_encoder("no-such-model", "cpu")


def test_defaults_of_reward_and_judge_open_offline_and_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reward, judge = (open_encoder(name, "cpu") for name in (DEFAULT_ENCODER, JUDGE_ENCODER))
    assert (reward.name, judge.name) == ("efficientnet_lite0", "efficientnet_lite2")
    assert reward.fingerprint != judge.fingerprint
    assert SIGLIP in SIGLIP_ADVICE


def test_a_model_that_needs_prompts_is_refused_on_an_encoder_without_a_text_tower(encoder: FeatureEncoder) -> None:
    check_encoder(MODEL_NAMES, encoder)
    pixels = open_encoder("pixels", "cpu")
    check_encoder([name for name in MODEL_NAMES if name not in PROMPT_MODELS], pixels)
    with pytest.raises(ConfigError, match="'transformer' needs features of prompts and the encoder 'pixels' has no"):
        check_encoder(MODEL_NAMES, pixels)
