"""The plan of a run, printed before it starts: images, denoiser calls, memory, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.minibatches import micro_batches
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.memory import activation_bytes, decoder_bytes
from pamela_rl.diffusion.policy import Policy
from pamela_rl.training.processes import image_shares

_MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of optimizer state a weight


@dataclass(frozen=True)
class Memory:
    """Bytes on one process's device while it learns.

    Attributes:
        base: Frozen weights: this process's share of the denoiser, and text encoders and VAE unless they wait elsewhere.
        adapter: The adapter's weights, gradients, their fp64 sums, and the optimizer's moments.
        trajectory: Latents kept for the update: the final ones, and those of the trained steps.
        activations: Of one micro-batch for its backward pass, without a reward's own; None where they could not be
            estimated.
    """

    base: int
    adapter: int
    trajectory: int
    activations: int | None

    @property
    def total(self) -> int:
        """All of them."""
        return self.base + self.adapter + self.trajectory + (self.activations or 0)


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        config: Its settings.
        algorithm: How it learns.
        num_processes: Sharing every iteration.
        sampling_calls: Of the denoiser, per iteration and process.
        training_calls: The same, with a backward pass.
        reference_calls: Without gradients, with the base model or an old adapter.
        rows_per_call: Images in a call, both branches of guidance counted.
        memory: On one process's device.
        checkpoint_bytes: On disk.
    """

    config: TrainConfig
    algorithm: Algorithm
    num_processes: int
    sampling_calls: int
    training_calls: int
    reference_calls: int
    rows_per_call: int
    memory: Memory
    checkpoint_bytes: int

    def text(self) -> str:
        """Format the plan in a few lines."""
        c, memory = self.config, self.memory
        local = c.images_per_iteration // self.num_processes
        algorithm = self.algorithm
        pairs = c.images_per_iteration * algorithm.pairs_per_image(c) // algorithm.num_updates
        updates = algorithm.num_updates * algorithm.num_inner_epochs
        shared = f", {local} on each of {self.num_processes} processes" if self.num_processes > 1 else ""
        besides = ", and what the reward keeps for its gradient" if algorithm.footprint(c).decodes else ""
        unknown = "" if memory.activations is not None else " without activations, which could not be estimated"
        parts = [("base model", memory.base), ("adapter", memory.adapter), ("trajectory", memory.trajectory)]
        parts += [("activations", memory.activations)] if memory.activations is not None else []
        split = ", ".join(f"{name} {_size(count)}" for name, count in parts)
        rows = [
            f"{c.num_iterations} iterations of {c.images_per_iteration} images = {c.prompts_per_iteration} prompts x "
            f"{c.group_size}{shared}: {c.num_iterations * c.images_per_iteration:,} images",
            f"an iteration: {updates} update{'s' * (updates > 1)} of {pairs} (image, step) pairs; denoiser calls of "
            f"{self.rows_per_call} rows: {self.sampling_calls} to sample, {self.training_calls} to train, "
            f"{self.reference_calls} to compare",
            f"memory: about {_size(memory.total)}{unknown} ({split}){besides}",
            f"checkpoints: every {c.checkpoint_every} iterations, {_size(self.checkpoint_bytes)}, the last one is kept",
        ]
        if c.validation.every:
            count = 1 + c.num_iterations // c.validation.every
            stop = f"; {c.validation.patience} without gain stop the run" if c.validation.patience else ""
            rows.insert(2, f"validation: {count} times {c.validation.num_images} images{stop}")
        return "\n".join(rows)


def plan_run(policy: Policy, config: TrainConfig, algorithm: Algorithm, num_processes: int) -> Plan:
    """Plan a run without sampling anything."""
    local = config.images_per_iteration // num_processes
    cuts, sampling = ceil(local / config.batch_size), config.sampling
    updates, cost = algorithm.num_updates * algorithm.num_inner_epochs, algorithm.footprint(config)
    rows = min(config.batch_size, local)
    passes = algorithm.num_inner_epochs * count_calls(config, algorithm, num_processes)
    steps, compared = cost.steps_per_pair, passes if algorithm.kl_weight > 0 or policy.sharded else updates
    guided = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale) is not None
    loaded = [part for part in policy.pipeline.components.values() if isinstance(part, nn.Module)]
    parts = [policy.denoiser] if policy.offload else loaded
    latents = policy.initial_latents([torch.Generator()])[0].numel()
    weights = adapter_size(policy, config.lora.rank)
    copies = int(algorithm.samples_with_old) + int(config.ema.decay > 0)
    one_call = activation_bytes(policy, replace(config, batch_size=rows))
    decoded = decoder_bytes(policy, rows) if cost.decodes else 0
    memory = Memory(
        base=sum(_bytes(part) for part in parts),
        adapter=weights * (4 + 4 + 8 + 4 * copies + _MOMENTS[algorithm.optimizer]),
        trajectory=local * (1 + cost.latents_per_image) * latents * 4,
        activations=None if one_call is None or decoded is None else one_call * steps + decoded,
    )
    return Plan(
        config=config,
        algorithm=algorithm,
        num_processes=num_processes,
        sampling_calls=cuts * sampling.num_inference_steps,
        training_calls=passes * steps,
        reference_calls=compared * steps + passes * algorithm.samples_with_old,
        rows_per_call=rows * (2 if guided else 1),
        memory=memory,
        checkpoint_bytes=weights * (4 + 4 * copies + _MOMENTS[algorithm.optimizer]),
    )


def count_calls(config: TrainConfig, algorithm: Algorithm, num_processes: int) -> int:
    """Count one inner epoch's micro-batches on the process that has most."""
    return max(map(sum, calls_of_updates(config, algorithm, num_processes)))


def calls_of_updates(config: TrainConfig, algorithm: Algorithm, num_processes: int) -> list[list[int]]:
    """Count the micro-batches of each update of an inner epoch, one list a process."""
    images, updates = config.images_per_iteration, algorithm.num_updates
    shares = image_shares(images, num_processes, config.batch_size)
    slots = torch.zeros(shares.shape[1], algorithm.pairs_per_image(config), dtype=torch.long)
    rows = min(config.batch_size, shares.shape[1])
    return [
        [sum(1 for _ in micro_batches(ids, slots, images, update, updates, rows)) for update in range(updates)]
        for ids in shares
    ]


def adapter_size(policy: Policy, rank: int) -> int:
    """Count the weights of an adapter of some rank: two matrices for each target layer."""
    count, ends = 0, tuple(policy.lora_target_modules)
    for name, layer in policy.denoiser.named_modules():
        module: Any = layer
        if any(name == end or name.endswith(f".{end}") for end in ends) and hasattr(module, "weight"):
            count += rank * (module.weight.shape[0] + module.weight[0].numel())
    return count


def _bytes(module: nn.Module) -> int:
    local = (weight.to_local() if isinstance(weight, DTensor) else weight for weight in module.parameters())
    return sum(weight.numel() * weight.element_size() for weight in local)


def _size(count: int) -> str:
    """Format a number of bytes."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
