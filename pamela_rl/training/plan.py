"""The plan of a run, printed before it starts: images, denoiser calls, memory, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.minibatches import micro_batches
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.adherence import LEVELS
from pamela_rl.diffusion.memory import sampling_bytes, update_bytes
from pamela_rl.diffusion.policy import Policy
from pamela_rl.training.processes import image_shares
from pamela_rl.types import Scorer

MOST_TOGETHER = 64
_MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of optimizer state a weight


@dataclass(frozen=True)
class Memory:
    """Bytes on one process's device at the highest point of an iteration.

    Attributes:
        base: Frozen weights: this process's share of the denoiser, and text encoders and VAE unless they are offloaded.
        adapter: The adapter's weights, gradients, their sums, and the optimizer's moments.
        scorers: Weights of the reward and the monitors, and of their encoders.
        trajectory: Images, and latents kept for the update: the final ones, and those of the trained steps.
        working: Most that encoding prompts, sampling and decoding, or one micro-batch's update need besides, without what a
            reward keeps for its gradient; None where it depends on data.
    """

    base: int
    adapter: int
    scorers: int
    trajectory: int
    working: int | None

    def for_people(self, count: int) -> Memory:
        """Return the memory of several people who are trained together on the same base model."""
        return replace(
            self, adapter=count * self.adapter, trajectory=count * self.trajectory,
            working=None if self.working is None else count * self.working,
        )  # fmt: skip

    @property
    def total(self) -> int:
        """All of them."""
        return self.base + self.adapter + self.scorers + self.trajectory + (self.working or 0)


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
        checkpoint_bytes: On disk, of each person.
        together: People who share its denoiser calls; images and updates are of each of them.
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
    together: int = 1

    def for_people(self, count: int) -> Plan:
        """Return the plan of several people who are trained together, each of them as here."""
        return replace(
            self, together=count, memory=self.memory.for_people(count), rows_per_call=count * self.rows_per_call
        )

    def text(self) -> str:
        """Format the plan in a few lines."""
        c, memory = self.config, self.memory
        local = c.images_per_iteration // self.num_processes
        algorithm = self.algorithm
        pairs = c.images_per_iteration * algorithm.pairs_per_image(c) // algorithm.num_updates
        updates = algorithm.num_updates * algorithm.num_inner_epochs
        shared = f", {local} on each of {self.num_processes} processes" if self.num_processes > 1 else ""
        besides = ", and what the reward keeps for its gradient" if algorithm.footprint(c).decodes else ""
        unknown = "" if memory.working is not None else " without activations, which depend on data here"
        parts = [("base model", memory.base), ("adapter", memory.adapter), ("rewards", memory.scorers)]
        parts += [("trajectory", memory.trajectory), ("activations", memory.working or 0)]
        split = ", ".join(f"{name} {size_text(count)}" for name, count in parts if count)
        sampled = (
            f"images = {c.prompts_per_iteration} prompts x {c.group_size}{shared}: "
            f"{c.num_iterations * c.images_per_iteration:,} images"
        )
        rows = [
            f"{c.num_iterations} iterations of {c.images_per_iteration} "
            + (sampled if algorithm.learns_from == "rollouts" else f"of the rated images{shared}, none sampled"),
            f"an iteration: {updates} update{'s' * (updates > 1)} of {pairs} (image, step) pairs; denoiser calls of "
            f"{self.rows_per_call} rows: {self.sampling_calls} to sample, {self.training_calls} to train, "
            f"{self.reference_calls} to compare",
            f"memory: about {size_text(memory.total)}{unknown} ({split}){besides}",
            f"checkpoints: every {c.checkpoint_every} iterations, {size_text(self.checkpoint_bytes)}, the last one is kept",
        ]
        if self.together > 1:
            rows.insert(0, f"{self.together} people at a time, of whom each has")
        if c.validation.every:
            count = 1 + c.num_iterations // c.validation.every
            stop = f"; {c.validation.patience} without gain stop the run" if c.validation.patience else ""
            rows.insert(2, f"validation: {count} times {c.validation.num_images} images{stop}")
        if c.validation.strengths:
            at = ", ".join(f"{strength:g}" for strength in c.validation.strengths)
            rows.insert(-2, f"at the end: {c.validation.num_images} images at each of the strengths {at}")
        return "\n".join(rows)


def plan_run(
    policy: Policy, config: TrainConfig, algorithm: Algorithm, num_processes: int, scorers: Sequence[Scorer] = ()
) -> Plan:
    """Plan a run without sampling anything.

    Args:
        policy: Without an adapter.
        config: Of the run.
        algorithm: Of the run.
        num_processes: That share an iteration.
        scorers: The reward and the monitors, whose weights take memory too.
    """
    local = config.images_per_iteration // num_processes
    cuts, sampling = ceil(local / config.batch_size), config.sampling
    updates, cost = algorithm.num_updates * algorithm.num_inner_epochs, algorithm.footprint(config)
    rows = min(config.batch_size, local)
    passes = algorithm.num_inner_epochs * count_calls(config, algorithm, num_processes)
    samples, steps = algorithm.learns_from == "rollouts", cost.steps_per_pair
    always = algorithm.kl_weight > 0 or algorithm.learns_from == "pairs" or policy.sharded
    compared = passes if always else updates * samples
    held = config.reward.adherence_weight and algorithm.uses_advantages and samples
    adherence_calls = cuts * 2 * len(LEVELS) if held else 0
    guided = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale) is not None
    weights = policy.bank.size(config.lora.rank)
    copies = int(algorithm.samples_with_old) + int(config.ema.decay > 0)
    memory = plan_memory(policy, replace(config, batch_size=rows), algorithm, local, scorers)
    return Plan(
        config=config,
        algorithm=algorithm,
        num_processes=num_processes,
        sampling_calls=cuts * sampling.num_inference_steps * samples,
        training_calls=passes * steps,
        reference_calls=compared * steps + passes * algorithm.samples_with_old + adherence_calls,
        rows_per_call=rows * (2 if guided else 1),
        memory=memory,
        checkpoint_bytes=weights * (4 + 4 * copies + _MOMENTS[algorithm.optimizer]),
    )


def people_together(wanted: int | str, people: int, plan: Plan, device: torch.device) -> int:
    """Return how many people to train at a time: as many as ``wanted``, or for "auto" as the device has memory for.

    Of those that fit, it takes the fewest with which everybody's turn comes as soon, so that the last ones are not alone.
    """
    if isinstance(wanted, int):
        most = min(wanted, people)
    else:
        each = plan.memory.for_people(2).total - plan.memory.total
        most = max(1, min(people, MOST_TOGETHER, (int(0.8 * _free_bytes(device)) - plan.memory.total) // each + 1))
    return ceil(people / ceil(people / most))


def _free_bytes(device: torch.device) -> int:
    """Bytes that are free on a card, or in the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def plan_memory(
    policy: Policy, config: TrainConfig, algorithm: Algorithm, num_local: int, scorers: Sequence[Scorer]
) -> Memory:
    """Work out the memory of a process that has ``num_local`` images, with calls of ``config.batch_size``."""
    cost, weights = algorithm.footprint(config), policy.bank.size(config.lora.rank)
    copies = int(algorithm.samples_with_old) + int(config.ema.decay > 0)
    loaded = [part for part in policy.pipeline.components.values() if isinstance(part, nn.Module)]
    idle = [part for part in loaded if part is not policy.denoiser] if policy.offload else []
    texts = [part for part in idle if part is not policy.pipeline.vae]
    vae, moved = module_bytes([policy.pipeline.vae]) if policy.offload else 0, module_bytes(texts)
    latents = policy.initial_latents([torch.Generator()])[0].numel()
    image = 3 * policy.height * policy.width
    update = update_bytes(policy, config, cost.steps_per_pair, cost.decodes, algorithm.kl_weight > 0)
    sampling = sampling_bytes(policy, config)
    unknown = update is None or sampling is None
    return Memory(
        base=module_bytes([part for part in loaded if part not in idle]),
        adapter=weights * (4 + 4 + 8 + 4 * copies + _MOMENTS[algorithm.optimizer]),
        scorers=module_bytes([module for scorer in scorers for module in modules_of(scorer)]),
        trajectory=4 * num_local * ((1 + cost.latents_per_image) * latents + image),
        working=None if unknown else max(moved, (sampling or 0) + vae, (update or 0) + vae * cost.decodes),
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


def modules_of(scorer: object, depth: int = 3) -> list[nn.Module]:
    """Find the modules among an object's attributes, and among theirs."""
    if isinstance(scorer, nn.Module):
        return [scorer]
    inside = vars(scorer).values() if depth and hasattr(scorer, "__dict__") else ()
    return [module for value in inside for module in modules_of(value, depth - 1)]


def module_bytes(modules: Sequence[nn.Module]) -> int:
    """Count the bytes of modules' weights on this process, each weight once."""
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    local = (weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights.values())
    return sum(weight.numel() * weight.element_size() for weight in local)


def memory_text(planned: int, peak: int, device: torch.device) -> str:
    """Set the planned memory beside the peak of the first iteration."""
    measured = (
        "peak on the card"
        if device.type == "cuda"
        else "peak of the process, with its libraries and what it did before"
    )
    return f"memory after the first iteration: planned about {size_text(planned)}; {measured}: {size_text(peak)}"


def size_text(count: int) -> str:
    """Format a number of bytes."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
