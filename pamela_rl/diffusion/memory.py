"""The memory that updates, sampling and decoding need, computed by running them on tensors that have shapes but no data."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.types import Conditioning

_NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)


class PeakMemory(TorchDispatchMode):
    """Follows the storages that operations in its block create, while they live.

    Attributes:
        live: Bytes that are alive now.
        peak: Most bytes that ever were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._followed: weakref.WeakSet[Any] = weakref.WeakSet()

    def ignore(self, tensors: Iterator[Tensor]) -> None:
        """Leave out storages that were there before, e.g. weights."""
        self._followed.update(tensor.untyped_storage() for tensor in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for value in tree_iter(output):
            if isinstance(value, Tensor):
                self._follow(value.untyped_storage())
        return output

    def _follow(self, storage: Any) -> None:
        if storage not in self._followed:
            self._followed.add(storage)
            count = storage.nbytes()
            self.live += count
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, count)

    def _forget(self, count: int) -> None:
        self.live -= count


class _WithWeights(nn.Module):
    """Lets ``functional_call`` swap the weights of a policy's modules while something runs."""

    def __init__(self, denoiser: nn.Module, vae: nn.Module, run: Callable[[], None]):
        super().__init__()
        self.denoiser, self.vae = denoiser, vae
        self._run = run

    def forward(self) -> None:
        """Run."""
        self._run()


def update_bytes(policy: Policy, config: TrainConfig, steps: int, decodes: bool, reference: bool) -> int | None:
    """Return the most bytes alive while one micro-batch is learned from, or None where that depends on data.

    Args:
        policy: Without an adapter, or with one.
        config: Of the run; its ``batch_size`` is that of the call.
        steps: Denoising steps that gradients pass through.
        decodes: Whether gradients pass through the decoder.
        reference: Whether the base model's prediction is computed beside the policy's.
    """

    def run(inputs: Mapping[str, Any]) -> None:
        latents = inputs["latents"]
        total: Any = 0.0
        for _ in range(steps):
            prediction = _predict(policy, config, inputs, latents)
            if reference:
                with torch.no_grad():
                    other = _predict(policy, config, inputs, latents)
                total = total + (prediction - other).square().mean()
            latents = latents + prediction
        total = total + latents.square().mean()
        total = total + policy.decode(latents).mean() if decodes else total
        policy.backward(total)

    return _peak(policy, config, run, with_gradients=True)


def sampling_bytes(policy: Policy, config: TrainConfig) -> int | None:
    """Return the most bytes alive while one call is sampled or its images decoded, or None where that depends on data."""

    def run(inputs: Mapping[str, Any]) -> None:
        _predict(policy, config, inputs, inputs["latents"])
        policy.decode(inputs["latents"][: policy.decoded_at_once])

    return _peak(policy, config, run, with_gradients=False)


def decoded_at_once(policy: Policy, total: int) -> int:
    """Return how many images the VAE may decode in a call, for which a tenth of a device's memory is set aside."""

    def run(inputs: Mapping[str, Any]) -> None:
        policy.decode(inputs["latents"])

    one = _peak(policy, TrainConfig(batch_size=1), run, with_gradients=False, is_told=False)
    return max(1, total // 10 // one) if one else 1


def peak_memory(device: torch.device) -> int:
    """Return the most bytes allocated on a card so far, or the most that this whole process took, on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # of POSIX alone

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _predict(policy: Policy, config: TrainConfig, inputs: Mapping[str, Any], latents: Tensor) -> Tensor:
    return policy.predict(
        latents, inputs["timesteps"], inputs["conditioning"], inputs["negative"], config.sampling.guidance_scale,
        kept=inputs["kept"],
    )  # fmt: skip


def _peak(
    policy: Policy,
    config: TrainConfig,
    run: Callable[[Mapping[str, Any]], None],
    with_gradients: bool,
    is_told: bool = True,
) -> int | None:
    if policy.sharded:
        return None  # hooks would take tensors without data for real ones
    sampling, count = config.sampling, config.batch_size
    conditioning = policy.encode(["an image"]) if is_told else Conditioning({})
    negative = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale) if is_told else None
    latents = policy.initial_latents([torch.Generator()])
    modules = {"denoiser": policy.denoiser, "vae": policy.pipeline.vae}
    memory, fake = PeakMemory(), FakeTensorMode(allow_non_fake_inputs=True)
    with _adapter_on(policy, config, fake) as adapter, _plainly(policy):
        weights = {f"{part}.{n}": p for part, module in modules.items() for n, p in module.named_parameters()}
        shapes: dict[str, Tensor] = {
            name: fake.from_tensor(weight).requires_grad_(weight.requires_grad and with_gradients)
            for name, weight in weights.items()
        }
        adapter.requires_grad_(with_gradients)
        memory.ignore(iter((adapter, *shapes.values())))

        def prepared() -> None:
            inputs = {
                "conditioning": Conditioning(
                    {name: _repeat(fake.from_tensor(tensor), count) for name, tensor in conditioning.tensors.items()}
                ),
                "negative": negative
                and Conditioning({name: fake.from_tensor(tensor) for name, tensor in negative.tensors.items()}),
                "latents": _repeat(fake.from_tensor(latents), count),
                "kept": torch.ones(count, policy.bank.inputs, device=latents.device) if config.lora.dropout else None,
                "timesteps": torch.full((count,), 500.0, device=latents.device),
            }
            run(inputs)

        try:
            with fake, memory, torch.set_grad_enabled(with_gradients):
                functional_call(_WithWeights(policy.denoiser, policy.pipeline.vae, prepared), shapes, ())
        except _NEEDS_DATA:
            return None
    return memory.peak


@contextmanager
def _adapter_on(policy: Policy, config: TrainConfig, fake: FakeTensorMode) -> Iterator[Tensor]:
    """Put an adapter without data on inside the block, like the one that is on, else of the run's size."""
    before = policy.adapter
    shaped = before or policy.bank.fresh(config.lora, 0, policy.device)
    weights = fake.from_tensor(shaped.weights)
    policy.adapter = replace(shaped, weights=weights)
    try:
        yield weights
    finally:
        policy.adapter, policy.matrices = before, None


@contextmanager
def _plainly(policy: Policy) -> Iterator[None]:
    """Move, compile and capture nothing inside the block: these would take tensors without data for real ones."""
    before = policy.offload, policy.graphs
    policy.offload, policy.graphs = False, None
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        policy.offload, policy.graphs = before


def _repeat(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:]).clone()
