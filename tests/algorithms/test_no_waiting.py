"""From the first forward pass of an iteration to its optimizer step, the CPU never waits for the card."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.dpo import DPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.learner import AdapterCopy, Experience, Learner
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout

CARD = torch.device("meta")  # tensors without data: what has to look at them raises
CONFIG = TrainConfig(
    images_per_iteration=4, group_size=2, batch_size=2, lora=LoraSettings(rank=2, alpha=4),
    sampling=SamplingConfig(num_inference_steps=4, train_steps=2, guidance_scale=3.0),
)  # fmt: skip


class AtTheStepError(Exception):
    """The optimizer steps."""


class Watch(TorchDispatchMode):
    """Writes down where the CPU and the card meet in the wrong way, beside what a device without data refuses by itself.

    Attributes:
        waits: What was seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        inputs = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        sent = any(value.device == CARD for value in tree_iter(output) if isinstance(value, Tensor))
        of_cpu = [tensor for tensor in inputs if tensor.device.type == "cpu" and tensor.dim()]
        if sent and of_cpu and not kwargs.get("non_blocking"):
            self.waits.append(str(func))
        return output


def sent(module: nn.Module) -> None:
    """Put a module's weights on the card."""
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(weight.to(CARD), requires_grad=False))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, buffer.to(CARD))


@pytest.mark.parametrize(
    "algorithm",
    [DDPO(num_updates=1), DDPO(num_updates=2, kl_weight=0.1), DDPO(num_inner_epochs=2), DDPOSF(), NFT(), DRaFT(num_steps=2),
     SFT(), DPO()],
    ids=lambda algorithm: f"{algorithm.name} {algorithm.num_updates} {algorithm.num_inner_epochs}",
)  # fmt: skip
def test_nobody_waits_between_the_first_forward_pass_and_the_optimizer_step(
    small_policy: Policy, accelerator: Accelerator, algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, watch, calls = small_policy, Watch(), 0
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    policy.encode(["a boat", "a tree"])
    policy.encode_negative("", 3.0)
    add_adapter(policy, "ada", CONFIG.lora, 0)
    adapter = policy.adapters["ada"]
    for module in (policy.denoiser, policy.pipeline.vae):
        sent(module)
    adapter.weights = nn.Parameter(adapter.weights.detach().to(CARD))
    own = policy.denoise

    def denoise(*inputs: Any) -> Tensor:
        nonlocal calls
        if calls == 0:
            watch.waits.clear()  # what came before the first forward pass
        calls += 1
        return own(*inputs)

    monkeypatch.setattr(policy, "denoise", denoise)
    optimizer = torch.optim.SGD([adapter.weights], lr=0.1)

    def step(*_: Any) -> None:
        raise AtTheStepError

    optimizer.register_step_pre_hook(step)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(1.0))  # there the CPU waits: once
    with watch:
        sampling, freed = algorithm.sampling(CONFIG, 0), algorithm.frees_sampling(CONFIG)
        drawn = rollout(
            policy, batch, sampling, 0, 0, 2, algorithm.kept_steps, algorithm.keeps_means, as_trained=not freed
        )
        advantages = torch.ones(4, device=CARD)
        learner = Learner(accelerator, policy, optimizer, CONFIG, darkness, old=AdapterCopy(adapter))
        experience = Experience(0, batch, sampling, drawn.without_images(), advantages, torch.ones(4, device=CARD))
        with pytest.raises(AtTheStepError):
            algorithm.update(learner, experience)
    assert calls > 8
    assert watch.waits == []
