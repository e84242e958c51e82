"""Checkpoints that stay, and each of them as an adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import EMASettings, KeepSettings, LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import drawn_with, list_adapters
from pamela_rl.errors import CheckpointError
from pamela_rl.training.export import export_checkpoint
from pamela_rl.training.personalize import Provenance, personalize

CONFIG = TrainConfig(
    num_iterations=4,
    images_per_iteration=4,
    group_size=2,
    batch_size=4,
    checkpoint_every=1,
    keep=KeepSettings(every=2, last=2),
    sampling=SamplingConfig(num_inference_steps=2, train_steps=1),
    ema=EMASettings(decay=0.5),
    lora=LoraSettings(rank=2, alpha=3),
    validation=ValidationSettings(every=2, num_images=2),
)
PROMPTS = PromptSource(["a boat"], "Ada Ü.")


def trained(policy: Policy, accelerator: Accelerator, run: Path, config: TrainConfig = CONFIG) -> Path:
    made_of = Provenance("world 32 x 32 float32", "darkness")
    judges = {"judge": darkness}
    return personalize(policy, darkness, PROMPTS, config, NFT(learning_rate=1e-2), run, accelerator, made_of, judges, 1)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "pytorch_lora_weights.safetensors")


def test_checkpoints_stay_as_asked_and_each_is_exported_as_it_would_have_been_published(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    run, short = tmp_path / "run", tmp_path / "short"
    published = weights(trained(small_policy, accelerator, run))
    (user,) = (run / "users").iterdir()
    assert sorted(kept.name for kept in (user / "checkpoints").iterdir()) == ["000002", "000003", "000004"]
    half = weights(trained(small_policy, accelerator, short, replace(CONFIG, num_iterations=2)))
    for checkpoint, expected in (("2", half), ("last", published), ("4", published)):
        exported = export_checkpoint(run, "Ada Ü.", checkpoint)
        assert exported == list_adapters(run / "exports" / checkpoint)["Ada Ü."]
        assert weights(exported).keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in weights(exported).items())
    assert weights(export_checkpoint(run, "Ada Ü.", "best", tmp_path / "best")).keys() == published.keys()
    with pytest.raises(CheckpointError, match=r"has no checkpoint '1'; it has: last, best, 2, 3, 4\.$"):
        export_checkpoint(run, "Ada Ü.", "1")
    longer = replace(CONFIG, num_iterations=5, keep=KeepSettings())
    trained(small_policy, accelerator, run, longer)
    assert list((user / "checkpoints").iterdir()) == []


def test_an_export_has_the_runs_layers_and_the_average_of_an_optimizer_without_a_schedule(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    pytest.importorskip("schedulefree")
    config = replace(CONFIG, num_iterations=2, ema=EMASettings(), lora=LoraSettings(rank=2, targets=["to_q"]))
    made_of, free = Provenance("world 32 x 32 float32", "darkness"), NFT(optimizer="adamw_schedule_free")
    judges = {"judge": darkness}
    adapter = personalize(small_policy, darkness, PROMPTS, config, free, tmp_path, accelerator, made_of, judges, 1)
    published, export = weights(adapter), export_checkpoint(tmp_path, "Ada Ü.")
    assert all("to_q" in key for key in published)
    assert drawn_with(export) == drawn_with(adapter) != {}
    exported = weights(export)
    assert exported.keys() == published.keys()
    assert all(torch.equal(value, published[key]) for key, value in exported.items())
