"""docs/coming_from.md maps every field of others' configs, once each, to settings that exist."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from train import TrainRecipeConfig

from pamela_rl.algorithms.optimizers import OPTIMIZERS, OptimizerSettings
from pamela_rl.algorithms.registry import algorithm_names, open_algorithm

TEXT = (Path(__file__).parents[2] / "docs" / "coming_from.md").read_text(encoding="utf-8")
THEIRS = {
    # dataclasses.fields(trl.DDPOConfig), trl 0.23.1
    "TRL": """exp_name run_name seed log_with tracker_kwargs accelerator_kwargs project_kwargs tracker_project_name logdir
        num_epochs save_freq num_checkpoint_limit mixed_precision allow_tf32 resume_from sample_num_steps sample_eta
        sample_guidance_scale sample_batch_size sample_num_batches_per_epoch train_batch_size train_use_8bit_adam
        train_learning_rate train_adam_beta1 train_adam_beta2 train_adam_weight_decay train_adam_epsilon
        train_gradient_accumulation_steps train_max_grad_norm train_num_inner_epochs train_cfg train_adv_clip_max
        train_clip_range train_timestep_fraction per_prompt_stat_tracking per_prompt_stat_tracking_buffer_size
        per_prompt_stat_tracking_min_count async_reward_computation max_workers negative_prompts push_to_hub""",
    # github.com/yifan123/flow_grpo: config/base.py (54809b5) and what the *_sd3* functions of config/grpo.py set (31c71b9)
    "Flow-GRPO": """run_name debug num_epochs resume_from seed logdir save_dir save_freq eval_freq num_checkpoint_limit
        mixed_precision allow_tf32 use_lora dataset resolution activation_checkpointing fsdp_optimizer_offload pretrained.model
        pretrained.revision sample.num_steps sample.train_num_steps sample.eval_num_steps sample.guidance_scale
        sample.eval_guidance_scale sample.batch_size sample.train_batch_size sample.num_image_per_prompt
        sample.mini_num_image_per_prompt sample.test_batch_size sample.num_batches_per_epoch sample.global_std
        sample.noise_level sample.same_latent sample.sde_window_size sample.sde_window_range sample.sde_type train.batch_size
        train.use_8bit_adam train.learning_rate train.adam_beta1 train.adam_beta2 train.adam_weight_decay train.adam_epsilon
        train.gradient_accumulation_steps train.max_grad_norm train.num_inner_epochs train.cfg train.adv_clip_max
        train.clip_range train.clip_range_lt train.clip_range_gt train.timestep_shift train.timestep_fraction train.beta
        train.lora_path train.ema prompt_fn prompt_fn_kwargs reward_fn per_prompt_stat_tracking""",
    # github.com/ostris/ai-toolkit: NetworkConfig of toolkit/config_modules.py (f699f4b), with the optimizer's fields of its
    # TrainConfig; train and model of config/examples/train_lora_flux_24gb.yaml (016777a)
    "ai-toolkit": """network.type network.rank network.linear network.conv network.alpha network.linear_alpha network.conv_alpha
        network.dropout network.network_kwargs network.lorm_config network.transformer_only network.lokr_full_rank
        network.lokr_factor network.split_multistage_loras train.batch_size train.steps train.gradient_accumulation_steps
        train.train_unet train.train_text_encoder train.gradient_checkpointing train.noise_scheduler train.optimizer
        train.optimizer_params train.lr train.lr_scheduler train.lr_scheduler_params train.skip_first_sample
        train.disable_sampling train.linear_timesteps train.ema_config train.dtype model.name_or_path model.is_flux
        model.quantize model.low_vram""",
}


def rows(program: str) -> list[tuple[str, str]]:
    """The fields of a program's table and what stands beside each."""
    table = TEXT.split(f"| {program} | here |\n")[1].split("\n\n")[0]
    return re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, flags=re.MULTILINE)


def has(kind: Any, path: list[str]) -> bool:
    """Whether a settings class, or one of those that it may be, has a setting."""
    kinds = [option for option in (kind, *get_args(kind)) if is_dataclass(option)]
    if not path or not kinds:
        return not path
    hints = get_type_hints(kinds[0])
    return path[0] in hints and has(hints[path[0]], path[1:])


@pytest.mark.parametrize("program", THEIRS)
def test_every_field_is_mapped_once(program: str) -> None:
    assert sorted(field for field, _ in rows(program)) == sorted(THEIRS[program].split())


def test_what_the_table_of_trl_lists_is_what_trl_has_where_it_still_has_it() -> None:
    trl = pytest.importorskip("trl")
    config = getattr(trl, "DDPOConfig", None)
    if config is not None:
        assert sorted(field.name for field in fields(config)) == sorted(THEIRS["TRL"].split())


@pytest.mark.parametrize("program", THEIRS)
def test_every_setting_that_a_table_names_exists(program: str) -> None:
    algorithms = [type(open_algorithm(name)) for name in algorithm_names()]
    missing = []
    for field, here in rows(program):
        for name in re.findall(r"`([a-z_.]+)(?:: [^`]+)?`", here):
            root, *path = name.split(".")
            known = has(TrainRecipeConfig, [root, *path])
            if root == "algorithm" and path:
                known = any(has(kind, path) for kind in algorithms)
            elif root == "optimizer" and path:
                known = has(OptimizerSettings, path)
            if not known and path and root in ("train", "model", "algorithm", "optimizer"):
                missing.append(f"{field}: {name}")
    assert not missing


def test_every_optimizer_is_named_with_how_to_get_it() -> None:
    table = TEXT.split("| `optimizer.name` | is |\n")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) - {"pip"} >= set(OPTIMIZERS)
