"""A setting that is given although nothing would read it is refused, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blind_test import BlindTestConfig
from draw import DrawConfig
from evaluate import EvaluateConfig
from fit_reward import FitRewardConfig
from train import TrainRecipeConfig

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError

SFT = ["--algorithm=sft", "--source.path=."]
EVALUATE = ["--run=."]


@pytest.mark.parametrize(
    ("recipe", "flags", "sentence"),
    [
        (TrainRecipeConfig, [*SFT, "--judge=."], "judge is .*: there is no reward that"),
        (TrainRecipeConfig, [*SFT, "--judge_encoder=pixels"], "judge_encoder is 'pixels'"),
        (TrainRecipeConfig, [*SFT, "--encoder=pixels"], "encoder is 'pixels'"),
        (TrainRecipeConfig, [*SFT, "--watch=[pickscore]"], r"watch is \['pickscore'\]"),
        (TrainRecipeConfig, [*SFT, "--model.name=x", "--content=world"], "content is 'world'.*the base model is x"),
        (
            TrainRecipeConfig,
            ["--algorithm=draft", "--train.reward.adherence_weight=3"],
            r"train.reward.adherence_weight is 3.0, .*draft learns without advantages",
        ),
        (
            TrainRecipeConfig,
            ["--algorithm=sft", "--source.scale=[0, 10]"],
            r"source.scale is \[0.0, 10.0\].*no source.path",
        ),
        (FitRewardConfig, ["--source.columns={rating:points}"], "source.columns is .*: there is no source.path"),
        (FitRewardConfig, ["--encoder=pixels"], "encoder is 'pixels', .*the embedded world has"),
        (FitRewardConfig, ["--source.path=.", "--add=.", "--models=all"], "models is 'all', .*: add takes new people"),
        (DrawConfig, ["--images=.", "--num_images=7"], "num_images is 7, .*images are your own"),
        (DrawConfig, ["--images=.", "--model.dtype=bfloat16"], "model.dtype is 'bfloat16', .*images are your own"),
        (DrawConfig, ["--num_candidates=7"], "num_candidates is 7, .*there is no reward"),
        (DrawConfig, ["--user=ada"], "user is 'ada', .*neither an adapter"),
        (EvaluateConfig, [*EVALUATE, "--service.max_images=7"], "service.max_images is 7, .*no service.model"),
        (EvaluateConfig, [*EVALUATE, "--chat.url=http://x"], "chat.url is 'http://x', .*no chat.model"),
        (
            EvaluateConfig,
            [*EVALUATE, "--service.model=gemini-2.5-flash-image", "--adapters={long:outputs/long}"],
            "adapters is .*service.model draws",
        ),
        (BlindTestConfig, ["--choices=.", "--num_pairs=7"], "num_pairs is 7, .*choices are read back"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(recipe: type[Any], flags: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}.*; leave it out"):
        read_config(recipe, "", flags)


def test_a_judges_encoder_is_refused_where_no_judge_was_fitted(tmp_path: Path) -> None:
    facts = {"model": {"user_ids": ["ada"]}, "kind": "TasteBasis", "encoder": "x", "encoder_name": "pixels"}
    (tmp_path / "reward.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ConfigError, match="judge_encoder is 'timm:x', but nothing reads it: there is no judge"):
        read_config(TrainRecipeConfig, "", [f"--reward={tmp_path}", "--judge_encoder=timm:x"])
