"""A training: the person's reward in the job's folder, and the recipe in a process of its own, which outlives its worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

from pamela_rl.cli.shipped import recipes_folder
from pamela_rl.diffusion.saved_adapters import INFO, recommended_strength
from pamela_rl.rewards.saved import JUDGE, REWARDS
from pamela_rl.rewards.settings import MAIN_MODEL
from pamela_rl.storage import folder_name, publish, write_text
from pamela_rl.studio.adapters import RUN, adapter_folder
from pamela_rl.studio.database.access import owned
from pamela_rl.studio.database.schema import TrainedAdapter
from pamela_rl.studio.jobs.course import course
from pamela_rl.studio.jobs.prompts import person_prompts
from pamela_rl.studio.jobs.queue import draw_ahead
from pamela_rl.studio.jobs.work import Failed, Stopped, Work
from pamela_rl.studio.web.strings import say

SETTINGS, LOG, REWARD, ANSWERS = "train.json", "train.log", "reward", "answers.json"
LOOK = 0.5  # seconds between two looks at a training
GRACE = 120.0  # seconds for a checkpoint, until a training that was told to stop is killed


def train(work: Work) -> str:
    """Train an adapter; the same job goes on where it stopped.

    Raises:
        Failed: The training did, or there is nothing to train with.
        Stopped: It is to stop; its checkpoint is kept.
    """
    settings = _prepared(work)
    _end(_processes(settings))  # of a worker that died: what they did is in the checkpoint
    work.models.close()
    with (work.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *_one_process(), str(recipes_folder() / "train.py"), "--config", str(settings)],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:
            time.sleep(LOOK)
            work.tell(**course(work.folder, work.person_id, work.settings.train.num_iterations))
            work.check()
    except Stopped as stopped:
        _end(_processes(settings))
        process.wait()
        if stopped.wish != "cancel" and _published(work):
            return _finished(work)
        raise
    if process.returncode or not _published(work):
        raise Failed(_why(work.folder / LOG, process.returncode))
    return _finished(work)


def _prepared(work: Work) -> Path:
    """Write the reward, its judge and the settings, and return the file of these; once, so that a training goes on as it began."""
    file = work.folder / SETTINGS
    if file.exists():
        return file
    found = work.models.reward(work.database, work.person_id)
    if found is None:
        raise Failed(say("jobs.nothing_learned"))
    (reward, count), judge = found, work.models.reward(work.database, work.person_id, judge=True)
    with publish(work.folder / REWARD) as target:
        reward.save(target / REWARDS / MAIN_MODEL)
        if judge is not None:
            judge[0].save(target / JUDGE)
    with work.database.session() as session:
        prompts, _ = person_prompts(session, work.settings, work.person_id)
        begun_from = work.asked.get("begin_from")
        start = None
        if begun_from is not None:
            start = _start(work, owned(session, TrainedAdapter, begun_from, work.person_id))
    write_text(work.folder / "prompts.txt", "".join(" ".join(prompt.split()) + "\n" for prompt in prompts))
    write_text(work.folder / ANSWERS, json.dumps({"count": count}))
    asked: dict[str, Any] = {
        "reward": work.folder.resolve() / REWARD,
        "users": [work.person_id],
        "prompts": work.folder.resolve() / "prompts.txt",
        "output_dir": work.folder.resolve() / RUN,
        "start": start,
        "model": asdict(work.settings.model),
        "train": asdict(work.settings.train),
    }
    if work.settings.num_inference_steps is not None:
        asked["num_inference_steps"] = work.settings.num_inference_steps
    write_text(file, json.dumps(asked, default=str, indent=1))
    return file


def _start(work: Work, adapter: TrainedAdapter) -> Path:
    """Copy the adapter that is gone on from, as a run of this person; one that was brought along has another's name in it."""
    start = work.folder.resolve() / "start"
    with publish(start / "adapters" / folder_name(work.person_id)) as target:
        shutil.copytree(adapter_folder(work.settings.folder, adapter), target, dirs_exist_ok=True)
        facts = json.loads((target / INFO).read_text(encoding="utf-8"))
        write_text(target / INFO, json.dumps({**facts, "user_id": work.person_id}, indent=2) + "\n")
    return start


def _finished(work: Work) -> str:
    """Enter the adapter, once."""
    count = json.loads((work.folder / ANSWERS).read_text(encoding="utf-8"))["count"]
    with work.database.changing() as session:
        mine = TrainedAdapter.person_id == work.person_id
        if session.scalar(select(TrainedAdapter.id).where(mine, TrainedAdapter.job_id == work.id)) is None:
            last = session.scalar(select(func.max(TrainedAdapter.round)).where(mine)) or 0
            adapter = TrainedAdapter(
                person_id=work.person_id, job_id=work.id, begun_from=work.asked.get("begin_from"), round=last + 1,
                num_answers=count,
            )  # fmt: skip
            adapter.strength = recommended_strength(adapter_folder(work.settings.folder, adapter))
            session.add(adapter)
            draw_ahead(session, work.person_id, work.settings.ahead // 2)  # what it draws can be rated
    done = course(work.folder, work.person_id, work.settings.train.num_iterations)
    early = done["iteration"] < work.settings.train.num_iterations
    work.tell(**{**done, "share": 1.0, "seconds_left": 0})
    return say("jobs.stopped_early") if early else ""


def _published(work: Work) -> bool:
    return (work.folder / RUN / "adapters" / folder_name(work.person_id) / INFO).exists()


def _one_process() -> list[str]:
    """Flags of the launcher; another configuration of this machine, e.g. for several cards, does not apply to a studio's jobs."""
    import torch

    cpu = [] if torch.cuda.is_available() else ["--cpu"]
    return ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *cpu]


def _processes(settings: Path) -> list[psutil.Process]:
    """Find the launcher and the training that were started with a settings file, whoever started them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(settings) in (process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    """Tell processes to stop, which they do after a checkpoint, and kill those that do not."""
    for process in processes:
        _tell(process, signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=GRACE)
    for process in left:
        _tell(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=GRACE)


def _tell(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _why(log: Path, code: int) -> str:
    """Say in a sentence why a training failed, and what helps."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode("utf-8", "replace")
    own, launcher, _ = text.rpartition(
        "Traceback (most recent call last)"
    )  # the launcher's comes last, and says nothing
    lines = [line.strip() for line in (own if launcher else text).splitlines() if line.strip()]
    told = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    if (
        "out of memory" in text.lower()
        or code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        or "died with <Signals.SIGKILL" in text
    ):
        why = say("jobs.no_memory")
    elif "No space left on device" in text:
        why = say("jobs.no_disk")
    elif told:
        why = told[-1]
    else:
        why = say("jobs.unknown_failure", code=code, log=" | ".join(lines[-3:])[-400:])
    return say("jobs.training_failed", why=why)
