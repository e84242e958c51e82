from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.evaluation.compare_adapters import compare_adapters
from pamela_rl.types import RewardOutput


def brightness(images: Tensor, prompts: list[str], user_ids: list[str]) -> RewardOutput:
    return RewardOutput(images.flatten(1).mean(dim=1))


def test_everybody_is_compared_with_the_base_and_with_the_next_users_adapter(policy: Policy, tmp_path: Path) -> None:
    users = ["ada", "Bob B."]
    for seed, user in enumerate(users):
        for weight in add_adapter(policy, "x", LoraSettings(rank=2, alpha=2), seed):
            weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        save_adapter(policy, "x", user, tmp_path, {"images_spent": str(60 + seed)}, {})
        remove_adapter(policy, "x")
    first, second = compare_adapters(
        policy.pipeline, tmp_path, users, ["a boat", "a tree"], {"reward": brightness}, 1, num_inference_steps=2
    )
    assert [first.user_id, second.user_id] == users
    assert list(first.images) == ["base", "own", "other"]
    torch.testing.assert_close(first.images["base"], second.images["base"], rtol=0, atol=0)
    torch.testing.assert_close(first.images["own"], second.images["other"], rtol=0, atol=0)
    torch.testing.assert_close(first.images["other"], second.images["own"], rtol=0, atol=0)
    assert not torch.equal(first.images["own"], first.images["other"])
    assert first.images_spent == {"base": 0, "own": 60, "other": 61}
