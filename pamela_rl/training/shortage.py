"""A run that is out of memory says what its plan was, and which settings would save most of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import OutOfMemory
from pamela_rl.training.memory_plan import Memory, plan_memory, size_text, total_bytes
from pamela_rl.types import Scorer

_SAID = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # by torch, with no class of its own
NUM_NAMED = 3


@dataclass(frozen=True)
class Relief:
    """A setting that would need less memory.

    Attributes:
        flag: As on the command line.
        saved: Bytes that the plan needs less with it.
        goes_on: Whether the run goes on with it; else it is another one, since what is learned changes.
    """

    flag: str
    saved: int
    goes_on: bool = True


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def shortage(
    policy: Policy,
    config: TrainConfig,
    algorithm: Algorithm,
    num_processes: int,
    scorers: Sequence[Scorer],
    together: int = 1,
) -> OutOfMemory:
    """Explain a run that is out of memory; arguments as ``plan_run`` takes them, and how many people train at the same time."""
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
    before = _plan(policy, config, algorithm, num_processes, scorers).for_people(together)
    found = reliefs(policy, config, algorithm, num_processes, scorers, together)
    named = [
        f"{relief.flag} ({size_text(relief.saved)} less{'' if relief.goes_on else ', with another --output_dir'})"
        for relief in found[:NUM_NAMED]
    ]
    remedy = (
        f"what would save most: {', '.join(named)}" if named else "no setting would save any of it: use a larger device"
    )
    return OutOfMemory(
        f"out of memory; planned were about {size_text(before.total)} ({before.split()}) of {size_text(total_bytes(policy.device))}; "
        f"{remedy}. What was finished is saved."
    )


def reliefs(
    policy: Policy,
    config: TrainConfig,
    algorithm: Algorithm,
    num_processes: int,
    scorers: Sequence[Scorer],
    together: int = 1,
) -> list[Relief]:
    """Plan the run again with each setting that could save memory; those that do, the best first."""

    def needed(changed: TrainConfig = config, people: int = together) -> int:
        return _plan(policy, changed, algorithm, num_processes, scorers).for_people(people).total

    now, found = needed(), []
    local = config.images_per_iteration // num_processes
    half = -(-min(config.batch_size, local) // 2)
    if half < min(config.batch_size, local):
        found.append(Relief(f"--train.batch_size {half}", now - needed(replace(config, batch_size=half))))
    half = -(-min(config.sampled_at_once, local) // 2)
    if config.sampling_batch_size is not None and half < min(config.sampled_at_once, local):
        fewer_sampled = replace(config, sampling_batch_size=half)
        found.append(Relief(f"--train.sampling_batch_size {half}", now - needed(fewer_sampled)))
    if together > 1:
        found.append(Relief(f"--together {together // 2}", now - needed(people=together // 2)))
    with _checkpointing(policy) as is_new:
        if is_new:
            found.append(Relief("--model.gradient_checkpointing true", now - needed()))
    if not (policy.offload or policy.sharded):
        policy.offload = True
        found.append(Relief("--model.offload true", now - needed()))
        policy.offload = False
    if policy.dtype == torch.float32:
        base = _plan(policy, config, algorithm, num_processes, scorers).base
        found.append(Relief("--model.dtype bfloat16", base // 2, goes_on=False))
    fewer = config.images_per_iteration // 2
    if fewer % config.group_size == 0 and fewer % num_processes == 0 and fewer:
        smaller = replace(config, images_per_iteration=fewer)
        found.append(Relief(f"--train.images_per_iteration {fewer}", now - needed(smaller), goes_on=False))
    return sorted((relief for relief in found if relief.saved > 0), key=lambda relief: -relief.saved)


def _plan(
    policy: Policy, config: TrainConfig, algorithm: Algorithm, num_processes: int, scorers: Sequence[Scorer]
) -> Memory:
    local = config.images_per_iteration // num_processes
    return plan_memory(policy, replace(config, batch_size=min(config.batch_size, local)), algorithm, local, scorers)


@contextmanager
def _checkpointing(policy: Policy) -> Iterator[bool]:
    """Compute activations twice inside the block; whether that is new."""
    is_new = not (policy.denoiser.is_gradient_checkpointing or policy.sharded or policy.graphs)
    if is_new:
        policy.denoiser.enable_gradient_checkpointing()
    try:
        yield is_new
    finally:
        if is_new:
            policy.denoiser.disable_gradient_checkpointing()
