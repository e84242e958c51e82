"""What the docs tell people to write works as it stands there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from accelerate import Accelerator
from learning import darkness
from quickstart import QuickstartConfig

from pamela_rl.algorithms.registry import open_algorithm
from pamela_rl.cli.command_line import read_config
from pamela_rl.config import LoraSettings, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state
from pamela_rl.diffusion.policy import Policy
from pamela_rl.storage import read_metrics
from pamela_rl.training.loop import train

DOCS = Path(__file__).parents[2] / "docs"


def block(file: str, language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / file).read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(text)


def test_the_example_of_an_algorithm_of_your_own_learns(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raft.py").write_text(block("algorithms.md", "python"), encoding="utf-8")
    (tmp_path / "raft.yaml").write_text(block("algorithms.md", "yaml"), encoding="utf-8")
    config = read_config(QuickstartConfig, "", ["--config=raft.yaml"])
    assert config.algorithm == yaml.safe_load(block("algorithms.md", "yaml"))["algorithm"] | {"learning_rate": 0.002}
    short = replace(
        config.train, num_iterations=6, images_per_iteration=16, group_size=8, batch_size=16,
        sampling=replace(config.train.sampling, num_inference_steps=5, train_steps=2), lora=LoraSettings(4, 4),
        validation=ValidationSettings(every=6, num_images=12),
    )  # fmt: skip
    algorithm, prompts = open_algorithm(config.algorithm), PromptSource(["a boat", "a tree"], "ada")
    name = train(small_policy, darkness, prompts, short, algorithm, tmp_path / "run", accelerator)
    before, after = (row["eval/reward_mean"] for row in read_metrics(tmp_path / "run" / "validation.jsonl"))
    assert after > before + 0.01
    imitated = [row["train/imitated"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert all(0.1 < share < 0.6 for share in imitated)
    assert any(value.abs().max() > 0 for key, value in adapter_state(small_policy, name).items() if "lora_B" in key)
