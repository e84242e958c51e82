"""From nothing to a report: users of the world, their rewards, their adapters, and how much better they are."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import torch
from accelerate import Accelerator

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.compare_adapters import compare_adapters
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.text_tables import summary_table
from pamela_rl.rewards.saved import chosen_users
from pamela_rl.storage import ensure_writable, folder_name, read_metrics
from pamela_rl.training.people import People, personalize_users
from pamela_rl.training.personalize import Provenance, versions
from pamela_rl.training.plan import plan_run
from pamela_rl.training.workers import Worker
from pamela_rl.world.background import LEAST_CORES, in_background
from pamela_rl.world.captions import train_and_held_out_prompts, world_prompts
from pamela_rl.world.raters import make_raters
from pamela_rl.world.saved_rewards import ensure_rewards, open_rewards


def run_quickstart(
    run: Path,
    model: str,
    num_users: int,
    algorithm: Algorithm,
    config: TrainConfig,
    accelerator: Accelerator,
    *,
    held_out_prompts: int = 16,
    seeds_per_prompt: int = 2,
    num_inference_steps: int = 20,
    command: str = "",
) -> None:
    """Fit rewards, train an adapter for each user, compare, and print where the report is.

    Started again, it goes on where it stopped: rewards that are there are loaded, users who are trained are not trained again.

    Args:
        run: The run's folder.
        model: A shipped one: "world" or "flow".
        num_users: Who get an adapter.
        algorithm: How they learn.
        config: Of each user's training.
        accelerator: Devices, processes, mixed precision.
        held_out_prompts: To compare on, at most 16.
        seeds_per_prompt: Images of each prompt and arm.
        num_inference_steps: Of the images compared.
        command: For the report.
    """
    started, rewards, config = time.monotonic(), run / "rewards", config.used_in(num_inference_steps)
    if accelerator.is_main_process:
        ensure_writable(run)
        ensure_rewards(rewards, num_users)
    accelerator.wait_for_everyone()
    _, scorers = open_rewards(rewards, str(accelerator.device))
    users = chosen_users(rewards)[:num_users]
    policy = _open_policy(model, accelerator)
    raters = make_raters()
    tastes = {user: f"likes {raters.describe(user)}" for user in users}
    accelerator.print(f"\n3. {algorithm.name} trains an adapter for each of {len(users)} people:")
    for user, taste in tastes.items():
        accelerator.print(f"   {user} {taste}")
    job = _Training(run, model, tuple(users), algorithm, config, num_inference_steps)
    plan = plan_run(
        policy,
        config,
        algorithm,
        accelerator.num_processes,
        list(scorers.values()),
        world_prompts().held_out(config.validation),
    )
    accelerator.print(f"\n{indent(plan.text(), '   ')}\n")
    wait = _second_worker(job, accelerator)
    if wait is not None:
        print("   Two people at a time, each in a process of its own; below is who has this one.\n")
    job.do(accelerator, Worker() if wait is None else Worker(0, 2), policy, plan.memory.total)
    if wait is not None:
        wait()
    held_out = train_and_held_out_prompts()[1]
    if accelerator.is_main_process:
        print("\n4. Held-out prompts, same noise for all: base, own adapter, somebody else's.")
        comparisons = compare_adapters(
            policy.pipeline, run, users, held_out[:held_out_prompts], scorers, seeds_per_prompt, num_inference_steps,
            config.drawn.guidance_scale, config.drawn.negative_prompt,
        )  # fmt: skip
        releases = ", ".join(f"{package} {release}" for package, release in versions().items())
        seconds = f"{time.monotonic() - started:.0f}"
        context = {"command": command, "versions": releases, "seed": str(config.seed), "seconds": seconds}
        _report(run, comparisons, tastes, context)
    accelerator.end_training()


@dataclass(frozen=True)
class _Training:
    """The training of the people, as a process of its own takes it up."""

    run: Path
    model: str
    users: tuple[str, ...]
    algorithm: Algorithm
    config: TrainConfig
    num_inference_steps: int

    def do(self, accelerator: Accelerator, worker: Worker, policy: Policy, planned_bytes: int | None) -> None:
        """Train whom no other worker has."""
        reward, scorers = open_rewards(self.run / "rewards", str(accelerator.device))
        provenance = Provenance.of(ModelSettings(self.model), policy, f"encoder {reward.encoder.fingerprint}")
        personalize_users(
            People(
                policy, reward, world_prompts().prompts, self.users, self.config, self.algorithm, self.run, accelerator,
                provenance, scorers, self.num_inference_steps, planned_bytes, validation=world_prompts().validation,
                worker=worker,
            )
        )  # fmt: skip


def _second_worker(job: _Training, accelerator: Accelerator) -> Callable[[], None] | None:
    """Start a process that trains people beside this one, on a CPU of several cores; two cores do more apart than together."""
    alone = accelerator.num_processes == 1 and not accelerator.trackers and job.algorithm.is_own
    if not alone or accelerator.device.type != "cpu" or torch.get_num_threads() < LEAST_CORES:
        return None
    return in_background(_work_beside, job)


def _work_beside(job: _Training) -> None:
    accelerator = Accelerator(cpu=True)
    job.do(accelerator, Worker(1, 2), _open_policy(job.model, accelerator), None)


def _open_policy(model: str, accelerator: Accelerator) -> Policy:
    """Load a shipped model; its calls are so small that a card would wait for each of their kernels."""
    return prepare_policy(load_pipeline(model), ModelSettings(model, cuda_graphs=True), accelerator.device)


def _report(
    run: Path, comparisons: Sequence[UserComparison], tastes: Mapping[str, str], context: Mapping[str, str]
) -> None:
    """Write the report and print its main table."""
    summary = summarize(comparisons)
    validation = {user: read_metrics(run / "users" / folder_name(user) / "validation.jsonl") for user in tastes}
    page = write_report(run, Report(summary, comparisons, validation=validation, tastes=tastes, context=context))
    print(f"\n{summary_table(summary)}\n\n{context['seconds']} seconds. The report: {page}")
    print(
        "Next, compare with searches for prompts, noise and the best of many:\n"
        f"  pamela evaluate --run {shlex.quote(str(run))}\n"
        "or draw images to rate yourself:\n  pamela draw --output_dir my/pictures"
    )
