"""The plan of a run, printed before it starts: images, denoiser calls, memory, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.minibatches import micro_batches
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adherence import LEVELS
from pamela_rl.diffusion.policy import Policy
from pamela_rl.training.memory_plan import Memory, plan_memory, size_text
from pamela_rl.training.processes import image_shares
from pamela_rl.types import Scorer

MOST_TOGETHER = 64


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
        rows_per_call: Images in a call that is learned from, both branches of guidance counted.
        memory: On one process's device.
        checkpoint_bytes: On disk, of each person.
        watched: A clause that says which prompts validation is on; empty where it is not known.
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
    watched: str = ""
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
        kept = "the last one is kept" if c.keep.last == 1 else f"the last {c.keep.last} are kept"
        kept += f", and every {c.keep.every * c.checkpoint_every} iterations' for good" if c.keep.every else ""
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
            f"memory: about {size_text(memory.total)}{unknown} ({memory.split()}){besides}",
            f"checkpoints: every {c.checkpoint_every} iterations, {size_text(self.checkpoint_bytes)}, {kept}",
        ]
        if self.together > 1:
            rows.insert(0, f"{self.together} people at a time, of whom each has")
        if c.validation.every:
            count = 1 + c.num_iterations // c.validation.every
            stop = f"; {c.validation.patience} without gain stop the run" if c.validation.patience else ""
            how = f"{c.drawn.num_inference_steps} steps, guidance {c.drawn.guidance_scale:g}"
            told = f"{how}, {self.watched}" if self.watched else how
            rows.insert(2, f"validation: {count} times {c.validation.num_images} images, {told}{stop}")
        if c.validation.strengths:
            at = ", ".join(f"{strength:g}" for strength in c.validation.strengths)
            rows.insert(-2, f"at the end: {c.validation.num_images} images at each of the strengths {at}")
        return "\n".join(rows)


def plan_run(
    policy: Policy,
    config: TrainConfig,
    algorithm: Algorithm,
    num_processes: int,
    scorers: Sequence[Scorer] = (),
    prompts: PromptSource | None = None,
) -> Plan:
    """Plan a run without sampling anything.

    Args:
        policy: Without an adapter.
        config: Of the run.
        algorithm: Of the run.
        num_processes: That share an iteration.
        scorers: The reward and the monitors, whose weights take memory too.
        prompts: To train on and to validate on; None leaves out what validation is on.
    """
    local, sampling = config.images_per_iteration // num_processes, config.sampling
    cuts, sampling_cuts = ceil(local / config.batch_size), ceil(local / config.sampled_at_once)
    cost, rows = algorithm.footprint(config), min(config.batch_size, local)
    passes = algorithm.num_inner_epochs * count_calls(config, algorithm, num_processes)
    samples, steps = algorithm.learns_from == "rollouts", cost.steps_per_pair
    held = config.reward.adherence_weight and algorithm.uses_advantages and samples
    adherence_calls = sampling_cuts * 2 * len(LEVELS) if held else 0
    if cost.predictions_per_pair or not samples:
        compared = cuts * algorithm.pairs_per_image(config) * cost.predictions_per_pair
    else:
        compared = passes if algorithm.kl_weight > 0 else 0
    if samples and not algorithm.kl_weight:
        compared += passes if policy.sharded else algorithm.steps_per_iteration  # to watch
    guided = policy.encode_negative(sampling.negative_prompt, sampling.guidance_scale) is not None
    weights = policy.bank.size(config.lora.rank)
    copies = int(algorithm.samples_with_old) + int(config.ema.decay > 0)
    memory = plan_memory(policy, replace(config, batch_size=rows), algorithm, local, scorers)
    return Plan(
        config=config,
        algorithm=algorithm,
        num_processes=num_processes,
        sampling_calls=sampling_cuts * sampling.num_inference_steps * samples,
        training_calls=passes * steps,
        reference_calls=compared * steps + adherence_calls,
        rows_per_call=rows * (2 if guided else 1),
        memory=memory,
        checkpoint_bytes=weights * (4 + 4 * copies + algorithm.optimizer_settings.bytes_per_weight()),
        watched="" if prompts is None else prompts.told(),
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
        [
            sum(1 for _ in micro_batches(ids, slots, images, update, updates, rows, ids.device))
            for update in range(updates)
        ]
        for ids in shares
    ]
