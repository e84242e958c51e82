"""How much memory a denoiser's backward pass needs, worked out without running it."""

from __future__ import annotations

import torch
from torch import Tensor
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
    """Bytes that one micro-batch keeps for its backward pass, or None where tensors without data cannot tell.

    The denoiser runs once on tensors that have shapes but no data; what autograd would keep is counted, each storage
    once, weights left out. Gradients are asked of the latents, which keeps what an adapter's would.
    """
    if policy.sharded or policy.compiled:
        return None  # hooks and compilers would take tensors without data for real ones
    sampling, count = config.sampling, config.batch_size
    told = policy.encode(["a picture"])
    negative = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale)
    latents = policy.initial_latents([torch.Generator()])
    own = {weight.untyped_storage()._cdata for weight in policy.denoiser.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            many = Conditioning({n: _repeat(fake.from_tensor(t), count) for n, t in told.tensors.items()})
            less = (
                None
                if negative is None
                else Conditioning({n: fake.from_tensor(t) for n, t in negative.tensors.items()})
            )
            start = _repeat(fake.from_tensor(latents), count).requires_grad_()
            time = torch.full((count,), 500.0, device=latents.device)
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                policy.predict(start, time, many, less, sampling.guidance_scale)
    except _LOOKS_AT_DATA:
        return None
    return sum(kept.values())


def _repeat(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:]).clone()
