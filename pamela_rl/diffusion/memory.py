"""The memory that a denoiser's backward pass needs, computed without running it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.types import Conditioning

_LOOKS_AT_DATA = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)


def activation_bytes(policy: Policy, config: TrainConfig) -> int | None:
    """Bytes that one micro-batch keeps for its backward pass, or None where that takes data.

    The denoiser runs once on tensors that have shapes but no data; what autograd would keep is counted, each storage
    once, weights left out. Gradients are taken with respect to the latents, which keeps the same tensors as an adapter's.
    """
    if policy.sharded or policy.compiled:
        return None  # hooks and compilers would take tensors without data for real ones
    sampling, count = config.sampling, config.batch_size
    conditioning = policy.encode(["a picture"])
    negative = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale)
    latents = policy.initial_latents([torch.Generator()])

    def predict(fake: FakeTensorMode) -> None:
        many = Conditioning({n: _repeat(fake.from_tensor(t), count) for n, t in conditioning.tensors.items()})
        less = None if negative is None else Conditioning({n: fake.from_tensor(t) for n, t in negative.tensors.items()})
        start = _repeat(fake.from_tensor(latents), count).requires_grad_()
        time = torch.full((count,), 500.0, device=latents.device)
        policy.predict(start, time, many, less, sampling.guidance_scale)

    return _kept_bytes(policy.denoiser, predict)


def decoder_bytes(policy: Policy, count: int) -> int | None:
    """Bytes that decoding ``count`` images keeps for a backward pass, or None where that takes data."""
    if policy.offload:
        return None  # parts that move would take tensors without data along
    latents = policy.initial_latents([torch.Generator()])

    def decode(fake: FakeTensorMode) -> None:
        policy.decode(_repeat(fake.from_tensor(latents), count).requires_grad_())

    return _kept_bytes(policy.pipeline.vae, decode)


def _kept_bytes(module: nn.Module, run: Callable[[FakeTensorMode], None]) -> int | None:
    """Run something on tensors that have shapes but no data; count the bytes autograd keeps besides the module's weights."""
    own = {weight.untyped_storage()._cdata for weight in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with (
            FakeTensorMode(allow_non_fake_inputs=True) as fake,
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            run(fake)
    except _LOOKS_AT_DATA:
        return None
    return sum(kept.values())


def _repeat(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:]).clone()
