"""Text encoders work once, before a run; the VAE moves once a rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from pamela_rl.config import SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.training.prompts_ahead import FOLDER, encode_ahead

CONFIG = TrainConfig(
    num_iterations=2, images_per_iteration=4, group_size=2, batch_size=2,
    sampling=SamplingConfig(num_inference_steps=3, train_steps=2, guidance_scale=3.0, negative_prompt="a cup"),
    validation=ValidationSettings(num_images=2),
)  # fmt: skip
PROMPTS = [f"a boat number {number}" for number in range(9)]


def moves(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where idle parts go from now on."""
    seen: list[str] = []

    def noting(name: str, module: nn.Module) -> Any:
        own = module.to

        def to(device: Any, *rest: Any, **options: Any) -> Any:
            seen.append(name)
            return own(device, *rest, **options)

        return to

    policy.offload = True
    for name in ("text_encoder", "vae"):
        module = getattr(policy.pipeline, name)
        monkeypatch.setattr(module, "to", noting(name, module))
    return seen


def test_prompts_of_a_run_are_encoded_once_and_found_again_on_disk(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = small_policy.encode(PROMPTS)
    fresh = type(small_policy)(small_policy.pipeline, 32, 32)
    seen = moves(fresh, monkeypatch)
    encode_ahead(fresh, PromptSource(PROMPTS, ""), ["a house"], CONFIG, tmp_path, "world float32", accelerator)
    assert seen == ["text_encoder"] * 4  # there and back, for prompts and for the negative one
    drawn = {p for i in range(2) for p in PromptSource(PROMPTS, "").draw(i, 2, 1, 0).prompts}
    watched = {PROMPTS[0]}
    files = list((tmp_path / FOLDER).rglob("*.safetensors"))
    assert len(files) == len(drawn | watched) + 2  # with the other one, and the negative prompt
    again = type(small_policy)(small_policy.pipeline, 32, 32)
    again.offload = True
    encode_ahead(again, PromptSource(PROMPTS, ""), ["a house"], CONFIG, tmp_path, "world float32", accelerator)
    rows = again.encode(sorted(drawn))
    assert seen == ["text_encoder"] * 4
    for place, prompt in enumerate(sorted(drawn)):
        expected = told.tensors["prompt_embeds"][PROMPTS.index(prompt)]
        assert torch.equal(rows.tensors["prompt_embeds"][place], expected)
    files[0].write_bytes(b"cut off")
    assert len(again.encode([*drawn, *watched, "a house"])) == len(drawn) + 2  # encoded anew
    other = type(small_policy)(small_policy.pipeline, 32, 32)
    encode_ahead(other, PromptSource(PROMPTS, ""), [], CONFIG, tmp_path, "world bfloat16", accelerator)
    assert len({file.parent for file in (tmp_path / FOLDER).rglob("*.safetensors")}) == 2


def test_the_vae_comes_once_a_rollout_and_goes(small_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = PromptSource(PROMPTS, "ada").draw(0, 4, 2, 0)
    small_policy.encode(list(batch.prompts))
    small_policy.encode_negative("a cup", 3.0)
    seen = moves(small_policy, monkeypatch)
    drawn = rollout(small_policy, batch, CONFIG.sampling, 0, 0, 2)
    assert seen == ["vae", "vae"]
    assert len(drawn.images) == 8


def test_images_are_decoded_in_calls_that_memory_holds(small_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = small_policy.initial_latents([torch.Generator().manual_seed(row) for row in range(5)])
    whole, sizes, own = small_policy.decode_all(latents, 5), [], small_policy.decode
    monkeypatch.setattr(small_policy, "decode", lambda part: (sizes.append(len(part)), own(part))[1])
    small_policy.decoded_at_once = 2
    torch.testing.assert_close(small_policy.decode_all(latents, 5), whole, atol=1e-6, rtol=0)
    assert sizes == [2, 2, 1]
