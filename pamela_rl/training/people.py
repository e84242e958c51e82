"""Adapters for many people: several are trained at a time, each as if alone; what is finished is not done again."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.company import Company, Seat
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import keep_version
from pamela_rl.errors import ConfigError, Interrupted, PamelaError, TrainingError
from pamela_rl.storage import ensure_writable, folder_name, write_text
from pamela_rl.training.checkpoint import digest_of
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.interruption import StopRequests
from pamela_rl.training.loop import run_facts
from pamela_rl.training.outcomes import FAILED, FINISHED, Outcome, outcome_of, outcome_table, write_outcomes
from pamela_rl.training.personalize import Provenance, personalize
from pamela_rl.training.prompts_ahead import encode_ahead
from pamela_rl.training.shortage import is_shortage, shortage
from pamela_rl.training.slots import slots_of
from pamela_rl.training.trackers import with_trackers_of_its_own
from pamela_rl.training.workers import ALONE, Worker
from pamela_rl.types import Reward, Scorer

logger = logging.getLogger(__name__)
_FREE, _ELSEWHERE, _DONE = "free", "elsewhere", "done"
RATINGS = "ratings"  # among a run's facts: a digest of the person's answers


@dataclass(frozen=True)
class People:
    """What all of them share, and what is each person's own.

    Attributes:
        policy: The pipeline.
        reward: What is maximised; None where the algorithm learns from rated images.
        prompts: To train on.
        users: Whom to train for; a person's place in the run's first list decides their slot.
        config: Of each training.
        algorithm: How it learns.
        run: The run's folder.
        accelerator: Devices, processes, mixed precision.
        provenance: Written into the adapters.
        scorers: Everything that scores, by name; all but the reward itself are logged.
        num_inference_steps: Of the sample images, and of validation unless its settings say otherwise.
        planned_bytes: Memory of the plan, shown beside the peak after the first person's first iteration.
        examples: Images that each user rated, for algorithms that learn from these.
        starts: Folders of the adapters to go on from, by user.
        ratings: Digest of each person's answers, where known; a person whose answers changed is trained anew.
        together: People who are trained at the same time.
        validation: Prompts to validate on; none takes them out of ``prompts``, see :meth:`PromptSource.held_out`.
        worker: Which of several processes this is that work through the same people; they wait for each other at the end.
    """

    policy: Policy
    reward: Reward | None
    prompts: Sequence[str]
    users: Sequence[str]
    config: TrainConfig
    algorithm: Algorithm
    run: Path
    accelerator: Accelerator
    provenance: Provenance
    scorers: Mapping[str, Scorer]
    num_inference_steps: int = 20
    planned_bytes: int | None = None
    examples: Mapping[str, RatedExamples] | None = None
    starts: Mapping[str, Path] | None = None
    ratings: Mapping[str, str] | None = None
    together: int = 1
    validation: Sequence[str] = ()
    worker: Worker = ALONE

    def source(self, user: str) -> PromptSource:
        """Return a user's prompts, those to validate on kept apart."""
        whole = PromptSource(self.prompts, user, self.validation)
        return whole.held_out(self.config.validation, self.algorithm.learns_from == "rollouts")


def personalize_users(people: People) -> list[Outcome]:
    """Train and publish one adapter a user; one who fails does not stop the others.

    Returns:
        How it ended for each user, in their order; ``users.parquet`` in the run's folder holds the same.

    Raises:
        ConfigError: People are to be trained together in processes that share every person's images.
        Interrupted: SIGTERM or Ctrl-C; everybody's last whole iteration is saved.
        PamelaError: Of the only user, as ``personalize`` raises it.
        OutOfMemory: It names what was planned, and the settings that would save most of it.
        TrainingError: Some of several users failed; names them. All others are published.
    """
    if people.together > 1 and people.accelerator.num_processes > 1:
        raise ConfigError(
            f"{people.together} people are to be trained together, but {people.accelerator.num_processes} processes share each "
            "person's images; train them one after another, or let each process have people of its own."
        )
    with_trackers_of_its_own(people.accelerator, people.together)  # refused before anything is trained
    people = replace(people, config=people.config.used_in(people.num_inference_steps))
    encode_ahead(
        people.policy, people.source(""), {prompt for mine in (people.examples or {}).values() for prompt in mine.prompts},
        people.config, people.run, people.provenance.base_model, people.accelerator,
    )  # fmt: skip
    work = _Work(people)
    work.run()
    if work.is_short:
        scorers, processes = list(people.scorers.values()), people.accelerator.num_processes
        raise shortage(people.policy, people.config, people.algorithm, processes, scorers, work.num_slots)
    outcomes = work.outcomes()
    if people.accelerator.is_main_process:
        write_outcomes(people.run, outcomes)
        if len(people.users) > 1 and people.worker.rank == 0:
            print(f"\n{outcome_table(outcomes)}\n")
    failed = [user for user in people.users if user in work.errors]
    if failed and len(people.users) == 1:
        raise work.errors[failed[0]]
    if failed:
        reasons = "; ".join(f"{user}: {work.errors[user]}" for user in failed[:3])
        raise TrainingError(
            f"{len(failed)} of {len(people.users)} people got no adapter ({reasons}); the same command tries them again."
        )
    return outcomes


class _Work:
    """The people of a run who are not finished, one slot's after another."""

    def __init__(self, people: People):
        self._people = people
        self.num_slots = min(people.together, len(people.users))
        self._slot_of = slots_of(people.run, people.users, self.num_slots)
        self._queues: list[deque[str]] = [deque() for _ in range(self.num_slots)]
        for user in people.users:
            self._queues[self._slot_of[user]].append(user)
        self._bar: Any = None
        self._elsewhere: list[str] = []
        self._interrupted: Interrupted | None = None
        self._planned = people.planned_bytes
        self._started = time.time()
        self.errors: dict[str, Exception] = {}
        self.is_short = False  # of memory, as it would be for everybody

    def run(self) -> None:
        """Train them all."""
        people = self._people
        with StopRequests(noted=True) as stop:
            if self.num_slots > 1:
                total = people.config.num_iterations * len(people.users)
                self._bar = tqdm(
                    total=total, desc=f"{len(people.users)} people", unit="it", position=people.worker.rank
                )
            Company(self.num_slots).run(self._next, stop.pending)
            for user in self._elsewhere if people.worker.count > 1 else ():  # others have them, who may die
                self._take_over(user, stop)
        if self._bar is not None:
            self._bar.close()
        if self._interrupted is not None:
            raise self._interrupted

    def _take_over(self, user: str, stop: StopRequests) -> None:
        """Wait until a person is free; then train them, unless they are finished."""
        slot, lock = self._slot_of[user], self._lock(user)
        while stop.pending() is None:
            with suppress(Timeout):
                lock.acquire(timeout=1)
                lock.release()
                break
        failed = self._folder(user) / FAILED
        if failed.exists() and failed.stat().st_mtime >= self._started:
            return  # it would fail again
        self._queues[slot].append(user)
        Company(self.num_slots).run(self._next, stop.pending)

    def _lock(self, user: str) -> FileLock:
        return FileLock(ensure_writable(self._folder(user)) / ".lock", blocking=False, thread_local=False)

    def _folder(self, user: str) -> Path:
        return self._people.run / "users" / folder_name(user)

    def outcomes(self) -> list[Outcome]:
        """Read from the folders how it ended."""
        run = self._people.run
        return [outcome_of(run, user) for user in self._people.users]

    def _next(self, seat: Seat) -> Callable[[], None] | None:
        queue = self._queues[seat.slot]
        while queue and not self.is_short:
            user, lock = queue.popleft(), None
            decision = ""
            if self._people.accelerator.is_main_process:
                decision, lock = self._claim(user)
            if self._people.accelerator.num_processes > 1:  # which share every person
                decision = broadcast_object_list([decision])[0]
            if decision == _FREE:
                return partial(self._train, seat, user, lock)
            if decision == _ELSEWHERE:
                self._elsewhere.append(user)
            else:
                self._count(self._people.config.num_iterations)
        return None

    def _claim(self, user: str) -> tuple[str, FileLock | None]:
        """Lock a person's folder, unless somebody has it or they are finished."""
        try:
            lock = self._lock(user)
            lock.acquire()
            if not self._is_finished(user, self._folder(user)):
                return _FREE, lock
            lock.release()
        except Timeout:
            return _ELSEWHERE, None
        except PamelaError as error:
            self.errors[user] = error
        return _DONE, None

    def _is_finished(self, user: str, folder: Path) -> bool:
        """Tell whether a person's adapter is published as it would be now; set aside what was learned from other answers."""
        people, facts = self._people, self._facts(user)
        path, run_file = folder / FINISHED, folder / "run.json"
        published = people.run / "adapters" / folder_name(user)
        if path.exists() and published.exists():
            finished = json.loads(path.read_text(encoding="utf-8"))
            if finished["digest"] == digest_of(people.config, facts):
                return True
        if run_file.exists():
            before = json.loads(run_file.read_text(encoding="utf-8")).get(RATINGS)
            if before != facts.get(RATINGS):
                keep_version(people.run, user)
                for child in folder.iterdir():
                    if child.name != ".lock":
                        shutil.rmtree(child) if child.is_dir() else child.unlink()
        return False

    def _facts(self, user: str) -> dict[str, Any]:
        people, made = self._people, self._provenance(user).to_json()
        return run_facts(people.source(user), people.algorithm, made, self._examples(user), self._start(user))

    def _train(self, seat: Seat, user: str, lock: FileLock | None) -> None:
        people, planned, folder = self._people, self._planned, self._folder(user)
        self._planned = None
        monitors = {name: scorer for name, scorer in people.scorers.items() if scorer is not people.reward}
        if lock is not None:
            (folder / FAILED).unlink(missing_ok=True)
        try:
            personalize(
                people.policy.seated(seat), people.reward, people.source(user), people.config, people.algorithm, people.run,
                with_trackers_of_its_own(people.accelerator, self.num_slots), self._provenance(user), monitors, people.num_inference_steps, planned,
                self._examples(user), self._start(user), self._bar,
            )  # fmt: skip
            if lock is not None:
                finished = {"digest": digest_of(people.config, self._facts(user))}
                write_text(folder / FINISHED, json.dumps(finished) + "\n")
        except Interrupted as interrupted:
            self._interrupted = interrupted
        except Exception as error:  # theirs alone: it is told at the end
            if is_shortage(error):
                self.is_short = True
                return
            self.errors[user] = error
            if not isinstance(error, PamelaError) and len(people.users) > 1:  # else it is raised
                logger.exception("The training for %s ended with an error that nobody foresaw.", user)
            with suppress(OSError):
                write_text(folder / FAILED, json.dumps({"error": " ".join(str(error).split())}) + "\n")
        finally:
            if lock is not None:
                lock.release()

    def _count(self, iterations: int) -> None:
        if self._bar is not None:
            self._bar.update(iterations)

    def _examples(self, user: str) -> RatedExamples | None:
        return (self._people.examples or {}).get(user)

    def _start(self, user: str) -> Path | None:
        return (self._people.starts or {}).get(user)

    def _provenance(self, user: str) -> Provenance:
        return self._people.provenance.of_answers((self._people.ratings or {}).get(user))
