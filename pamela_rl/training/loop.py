"""THE LOOP: act, judge, credit, learn, record."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Learner
from pamela_rl.config import TrainConfig
from pamela_rl.config.checks import spans_run
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.memory import peak_memory
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import adapter_file
from pamela_rl.errors import Interrupted, TrainingError
from pamela_rl.storage import ensure_writable, folder_name
from pamela_rl.training.checkpoint import claim, save_and_keep, save_checkpoint
from pamela_rl.training.checkpoint_folders import LAST
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.experience import Recollections, Rollouts, Source, check_source
from pamela_rl.training.health import check_health, summary
from pamela_rl.training.interruption import StopRequested, StopRequests
from pamela_rl.training.memory_plan import memory_text
from pamela_rl.training.processes import (
    Shares,
    check_precision,
    check_processes,
    check_run,
    mismatch_thresholds,
)
from pamela_rl.training.record import RunLog
from pamela_rl.training.shortage import is_shortage
from pamela_rl.training.state import OLD, TrainState
from pamela_rl.training.trackers import track
from pamela_rl.training.validation import Validation
from pamela_rl.types import Reward, Scorer


def train(
    policy: Policy,
    reward: Reward | None,
    prompts: PromptSource,
    config: TrainConfig,
    algorithm: Algorithm,
    folder: Path,
    accelerator: Accelerator,
    monitors: Mapping[str, Scorer] | None = None,
    facts: Mapping[str, str] | None = None,
    planned_bytes: int | None = None,
    examples: RatedExamples | None = None,
    start: Path | None = None,
    bar: Any = None,
) -> str:
    """Tune a fresh adapter on the policy to one user, or continue where ``folder`` stopped.

    Args:
        policy: The adapter stays on it, active, when the call returns.
        reward: What is maximised; None, or only watched, where the algorithm learns from rated images.
        prompts: Of one user; those to validate on are taken out (``PromptSource.held_out``), or validated on alone.
        config: Everything about the run but the algorithm.
        algorithm: How the adapter learns.
        folder: The user's own: ``run.json``, ``metrics.jsonl``, ``validation.jsonl``, ``checkpoint/``, ``best/``, ….
        accelerator: Devices, processes, mixed precision.
        monitors: Scorers that are logged, not trained against, by name, e.g. ``judge``.
        facts: What must not change during a run, e.g. the base model's and the reward's names.
        planned_bytes: Memory of the plan, shown beside the peak after the first iteration.
        examples: Images that the user rated, for algorithms that learn from these.
        start: Folder of an adapter to go on from; None starts from the base model.
        bar: A tqdm bar that several people share; None shows one of its own.

    Returns:
        The adapter's name on the denoiser.

    Raises:
        ConfigError: Precision, processes, algorithm, reward, patience and examples do not fit together, or the reward is a judge.
        CheckpointError: ``folder`` holds another run.
        StorageError: ``folder`` cannot be written to any more; the last checkpoint is whole.
        TrainingError: Too many rewards or gradients are not finite; the last good state is saved.
        Interrupted: SIGTERM or Ctrl-C; the last whole iteration is saved.
    """
    check_processes(accelerator, config)
    check_precision(accelerator, policy)
    check_run(policy, config, algorithm)
    check_source(algorithm, reward, examples, config, accelerator.num_processes)
    prompts = prompts.held_out(config.validation, algorithm.learns_from == "rollouts")
    user, main, monitors = prompts.user_id, accelerator.is_main_process, dict(monitors or {})
    if main:
        _claim(folder, config, algorithm, run_facts(prompts, algorithm, facts, examples, start))
    accelerator.wait_for_everyone()
    state = TrainState.resume(policy, folder_name(user), config, algorithm, folder / LAST, start)
    learner = Learner(accelerator, policy, state.optimizer, config, reward, state.scalars, state.copies.get(OLD))
    run = RunLog(folder / "metrics.jsonl", state.iteration, main, partial(track, accelerator), bar)
    scorers = {**({} if reward is None else {"reward": reward}), **monitors}
    validation = Validation(policy, state.name, scorers, prompts, config, folder, state.iteration, accelerator)
    snapshot, shares = state.checkpoint(), Shares.of(accelerator, config.images_per_iteration, config.batch_size)
    source: Source
    if algorithm.learns_from == "rollouts" and reward is not None:  # check_source
        source = Rollouts(policy, state, reward, monitors, prompts, config, algorithm, shares)
    elif examples is not None:
        source = Recollections(policy, examples, config, algorithm, shares)
    first, thresholds = state.iteration, mismatch_thresholds(accelerator, policy, algorithm, config)
    with StopRequests() as stop:
        try:
            with state.averaged_weights():
                validation.run(state.iteration)
            for iteration in run.iterations(state.iteration, config.num_iterations, user):
                if validation.out_of_patience():
                    break
                policy.pause()
                lived = source(iteration)  # act, judge, credit
                stats = algorithm.update(learner, lived.experience)  # learn
                metrics = summary(lived.rewards, lived.finite) | stats | dict(lived.scores)
                metrics["memory/peak_gb"] = peak_memory(policy.device) / 1e9
                run.log(iteration, metrics, len(lived.rewards))  # record
                del lived  # what was learned from leaves the device before the next images come
                if planned_bytes is not None and iteration == first:
                    run.say(memory_text(planned_bytes, peak_memory(policy.device), policy.device))
                check_health(metrics, config.reward.max_bad_share, thresholds)
                snapshot = state.advance(metrics)
                with state.averaged_weights():
                    validation.run(state.iteration)
                if main and config.saves_after(state.iteration):
                    with stop.held():
                        save_and_keep(folder, snapshot, config)
        except BaseException as error:
            signal = error.signal if isinstance(error, StopRequested) else stop.requested
            if main and (signal or isinstance(error, TrainingError) or is_shortage(error)):
                save_checkpoint(folder / LAST, snapshot)
            if signal:
                raise Interrupted(signal, folder, snapshot.iteration) from error
            raise
    state.apply_average()
    validation.restore_best()
    validation.run_strengths(state.iteration)
    return state.name


def _claim(folder: Path, config: TrainConfig, algorithm: Algorithm, facts: Mapping[str, Any]) -> None:
    """Claim a run's folder; what a schedule spans, or patience chooses by, does not change there."""
    fixed = ["num_iterations"] if spans_run(config, algorithm) else []
    claim(ensure_writable(folder), config, facts, fixed + config.validation.decisive)


def run_facts(
    prompts: PromptSource,
    algorithm: Algorithm,
    facts: Mapping[str, str] | None,
    examples: RatedExamples | None,
    start: Path | None,
) -> dict[str, Any]:
    """Collect what must not change under a run, besides its settings; arguments as ``train`` takes them."""
    found = {"user_id": prompts.user_id, "prompts": prompts.fingerprint, **settings_of(algorithm), **(facts or {})}
    found |= {"validation.prompts": prompts.validation_fingerprint}  # by what is in the file, not where it lies
    found |= {"examples": examples.fingerprint} if examples is not None else {}
    if start is not None:
        found["start"] = hashlib.sha256(adapter_file(start).read_bytes()).hexdigest()
    return found


def settings_of(algorithm: Algorithm) -> dict[str, Any]:
    """The algorithm's name and settings, for the record, and a digest of its file where it is not the package's own."""
    kind = type(algorithm)
    settings = {"algorithm": algorithm.name}
    if not algorithm.is_own:
        source = Path(inspect.getfile(kind))
        settings["algorithm.source"] = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    return settings | {f"algorithm.{name}": value for name, value in dataclasses.asdict(algorithm).items()}
