"""The memory of a run, worked out before it starts, and the largest calls that it leaves room for."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.memory import sampling_bytes, update_bytes
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError
from pamela_rl.types import Scorer


@dataclass(frozen=True)
class Memory:
    """Bytes on one process's device at the highest point of an iteration.

    Attributes:
        base: Frozen weights: this process's share of the denoiser, and text encoders and VAE unless they are offloaded.
        adapter: The adapter's gradients and their sums, and twice its weights, their copies and the optimizer's moments, since
            the last good iteration stays until the next one is done.
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

    def split(self) -> str:
        """Format its parts."""
        parts = [("base model", self.base), ("adapter", self.adapter), ("rewards", self.scorers)]
        parts += [("trajectory", self.trajectory), ("activations", self.working or 0)]
        return ", ".join(f"{name} {size_text(count)}" for name, count in parts if count)

    @property
    def total(self) -> int:
        """All of them."""
        return self.base + self.adapter + self.scorers + self.trajectory + (self.working or 0)


def plan_memory(
    policy: Policy,
    config: TrainConfig,
    algorithm: Algorithm,
    num_local: int,
    scorers: Sequence[Scorer],
    known: dict[tuple[str, int], int | None] | None = None,
) -> Memory:
    """Work out the memory of a process that has ``num_local`` images, with calls of ``config.batch_size``.

    Args:
        policy: Without an adapter.
        config: Of the run.
        algorithm: Of the run.
        num_local: Images of this process.
        scorers: The reward and the monitors.
        known: Bytes of calls that were worked out before, by kind and size; what is worked out now is added.
    """
    known = {} if known is None else known
    cost, weights = algorithm.footprint(config), policy.bank.size(config.lora.rank)
    copies = int(algorithm.samples_with_old) + int(config.ema.decay > 0)
    loaded = [part for part in policy.pipeline.components.values() if isinstance(part, nn.Module)]
    idle = [part for part in loaded if part is not policy.denoiser] if policy.offload else []
    texts = [part for part in idle if part is not policy.pipeline.vae]
    vae, moved = module_bytes([policy.pipeline.vae]) if policy.offload else 0, module_bytes(texts)
    latents = policy.initial_latents([torch.Generator()])[0].numel()
    image = 3 * policy.height * policy.width
    rows = min(config.sampled_at_once, num_local)
    if ("update", config.batch_size) not in known:
        beside = algorithm.learns_from == "rollouts" and (
            cost.decodes or not algorithm.kl_weight
        )  # else predicted before
        known["update", config.batch_size] = update_bytes(policy, config, cost.steps_per_pair, cost.decodes, beside)
    if ("sampling", rows) not in known:
        scale = max(config.sampling.guidance_scale, config.drawn.guidance_scale)  # validation may be the larger call
        guided = replace(config.sampling, guidance_scale=scale)
        known["sampling", rows] = sampling_bytes(policy, replace(config, batch_size=rows, sampling=guided))
    update, sampling = known["update", config.batch_size], known["sampling", rows]
    unknown = update is None or sampling is None
    return Memory(
        base=module_bytes([part for part in loaded if part not in idle]),
        adapter=weights * (4 + 8 + 2 * (4 + 4 * copies + algorithm.optimizer_settings.bytes_per_weight())),
        scorers=module_bytes([module for scorer in scorers for module in modules_of(scorer)]),
        trajectory=4 * num_local * ((1 + cost.latents_per_image) * latents + image),
        working=None if unknown else max(moved, (sampling or 0) + vae, (update or 0) + vae * cost.decodes),
    )


def fitting_batches(
    policy: Policy,
    config: TrainConfig,
    algorithm: Algorithm,
    num_processes: int,
    scorers: Sequence[Scorer],
    total: int,
) -> TrainConfig:
    """Choose the largest calls whose plan leaves a seventh of the memory free.

    Sampling, which keeps no activations, gets larger ones than training where they cost nothing: where ratios would have to be
    computed again for them, it makes training's own.

    Args:
        policy: Without an adapter.
        config: Of the run; its batch sizes are not looked at.
        algorithm: Of the run.
        num_processes: That share an iteration.
        scorers: The reward and the monitors.
        total: Bytes of memory.

    Raises:
        ConfigError: The memory of a call is not known before it is made.
    """
    local, room = config.images_per_iteration // num_processes, total * 6 // 7
    unit = 2 if algorithm.learns_from == "pairs" else 1
    cuts = sorted({-(-local // part // unit) * unit for part in range(1, local // unit + 1)})
    known: dict[tuple[str, int], int | None] = {}

    def fits(sizes: TrainConfig) -> bool:
        memory = plan_memory(policy, sizes, algorithm, local, scorers, known)
        if memory.working is None:
            raise ConfigError(
                "batch_size is auto, but how much memory a call of this model takes is not known before it is made (it is "
                "sharded, or what it does depends on data); set train.batch_size."
            )
        return memory.total <= room

    def largest(make: Callable[[int], TrainConfig]) -> TrainConfig:
        place = bisect_left(cuts, True, key=lambda cut: not fits(make(cut)))  # the first that does not fit
        return make(cuts[max(0, place - 1)])

    trained = largest(lambda size: replace(config, batch_size=size, sampling_batch_size=None))
    if not algorithm.frees_sampling(trained) or algorithm.learns_from != "rollouts":
        return trained
    return largest(lambda size: replace(trained, sampling_batch_size=max(size, trained.batch_size)))


def total_bytes(device: torch.device) -> int:
    """Bytes of a card's memory, or of half the machine's, which others use, too."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def modules_of(scorer: object, depth: int = 3) -> list[nn.Module]:
    """Find the modules among an object's attributes, among theirs, and in what these hold."""
    if isinstance(scorer, nn.Module):
        return [scorer]
    if isinstance(scorer, Mapping | tuple):
        held = scorer.values() if isinstance(scorer, Mapping) else scorer
        return [module for value in held for module in modules_of(value, depth)]
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
