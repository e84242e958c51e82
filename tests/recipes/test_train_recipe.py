from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_pipelines import reloaded, saved
from train import TrainRecipeConfig, train_users

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError, PamelaError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import read_metrics

SHORT = [
    "--train.num_iterations=1", "--train.images_per_iteration=4", "--train.group_size=2", "--train.batch_size=4",
    "--train.sampling.num_inference_steps=3", "--train.sampling.train_steps=2", "--train.validation.every=1",
    "--train.validation.num_images=2", "--num_inference_steps=2",
]  # fmt: skip


@pytest.fixture
def reward(world_reward: PersonalReward, tmp_path: Path) -> Path:
    world_reward.save(tmp_path / "reward")
    return tmp_path / "reward"


@pytest.mark.parametrize("family", ["StableDiffusion3Pipeline", "FluxPipeline"])
def test_a_model_given_by_name_is_tuned_to_a_person_and_its_adapter_loads_the_plain_way(
    reward: Path, tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, prompts, out = saved(family, tmp_path / "base"), tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("a boat\na tree\n")
    flags = [f"--reward={reward}", f"--model.name={base}", f"--prompts={prompts}", f"--output_dir={out}",
             "--users=[rater-007]", "--model.height=32", "--model.width=64", *SHORT]  # fmt: skip
    train_users(read_config(TrainRecipeConfig, "", flags))
    printed = capsys.readouterr().out
    assert "1 iterations of 4 images = 2 prompts x 2: 4 images" in printed
    assert "memory: about" in printed
    folder = out / "adapters" / "rater-007"
    facts = json.loads((folder / "adapter.json").read_text())
    assert facts["base_model"] == f"{base} 32 x 64 float32"
    with safe_open(str(folder / "pytorch_lora_weights.safetensors"), framework="pt") as file:
        assert all(key.startswith("transformer.") for key in file.keys())  # noqa: SIM118
    fresh = reloaded(base)
    fresh.load_lora_weights(folder, adapter_name="theirs")
    assert fresh.get_list_adapters() == {"transformer": ["theirs"]}
    assert torch.isfinite(
        torch.tensor(read_metrics(out / "users" / "rater-007" / "metrics.jsonl")[0]["train/grad_norm"])
    )


@pytest.mark.parametrize("algorithm", ["ddpo_sf", "{name: grpo, guard: true}", "nft", "draft"])
def test_every_algorithm_learns_with_every_means_to_save_memory(reward: Path, tmp_path: Path, algorithm: str) -> None:
    base, prompts, out = (
        saved("StableDiffusion3Pipeline", tmp_path / "base"),
        tmp_path / "prompts.txt",
        tmp_path / "out",
    )
    prompts.write_text("a boat\na tree\n")
    savers = [f"--model.{name}=true" for name in ("gradient_checkpointing", "offload")]
    flags = [f"--reward={reward}", f"--model.name={base}", f"--prompts={prompts}", f"--output_dir={out}",
             "--users=[rater-007]", "--model.dtype=bfloat16", f"--algorithm={algorithm}", *savers, *SHORT]  # fmt: skip
    train_users(read_config(TrainRecipeConfig, "", flags))
    row = read_metrics(out / "users" / "rater-007" / "metrics.jsonl")[0]
    assert row["train/grad_norm"] > 0
    assert row["train/skipped_updates"] == 0
    weights = load_file(out / "adapters" / "rater-007" / "pytorch_lora_weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)


def test_a_model_outside_the_world_needs_prompts(reward: Path) -> None:
    with pytest.raises(
        ConfigError, match="the base model is some/model, for which no prompts are known; give --prompts"
    ):
        read_config(TrainRecipeConfig, "", [f"--reward={reward}", "--model.name=some/model"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--users=[nobody]"], "the reward does not know user 'nobody'; it knows 156 people"),
        (["--together=0"], "together is 0; use 1 or more people at a time, or auto"),
        (["--judge=nowhere"], "no personal reward can be read from nowhere"),
        (["--prompts=absent.txt"], "cannot read the prompt file absent.txt"),
        (["--algorithm={name: ddpo, num_updates: 7}"], "num_updates is 7"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_config(reward: Path, flags: list[str], sentence: str) -> None:
    with pytest.raises(PamelaError, match=sentence):
        read_config(TrainRecipeConfig, "", [f"--reward={reward}", *flags])


def test_everybody_is_meant_by_all_and_a_number_or_auto_says_how_many_at_a_time(reward: Path) -> None:
    def read(*flags: str) -> TrainRecipeConfig:
        return read_config(TrainRecipeConfig, "", [f"--reward={reward}", *flags])

    assert read().named == read("--users=all").named == []
    assert read("--users=[rater-001,rater-002]").named == ["rater-001", "rater-002"]
    assert read("--together=16").together == 16
    assert read("--together=auto").together == "auto"


@pytest.mark.slow
def test_a_personal_reward_is_a_part_of_a_sum_and_what_is_logged_as_the_reward_is_the_sum(
    reward: Path, tmp_path: Path
) -> None:
    (tmp_path / "dark.py").write_text(
        "def reward(images, prompts, user_ids):\n    return -images.mean(dim=(1, 2, 3))\n"
    )
    choice = f"{{mine: {{folder: {reward}}}, dark: {{file: {tmp_path / 'dark.py'}, weight: 0.5}}}}"
    flags = [f"--reward={choice}", f"--output_dir={tmp_path / 'out'}", "--users=[rater-007]", "--algorithm=ddpo_sf",
             "--train.reward.std_weight=0", "--train.reward.adherence_weight=0", "--train.validation.strengths=[]"]  # fmt: skip
    train_users(read_config(TrainRecipeConfig, "", [*flags, *SHORT]))
    folder = tmp_path / "out" / "users" / "rater-007"
    row, base = read_metrics(folder / "metrics.jsonl")[0], read_metrics(folder / "validation.jsonl")[0]
    expected = row["rollout/reward_mine_mean"] + 0.5 * row["rollout/reward_dark_mean"]
    assert row["rollout/reward_mean"] == pytest.approx(expected, abs=1e-4)
    assert abs(base["eval/reward_mean"]) < 6  # in standard deviations of the base model, not in stars
