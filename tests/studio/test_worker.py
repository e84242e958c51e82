from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from sqlalchemy import select

from pamela_rl.config import LoraSettings, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import add_adapter, save_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.studio import blind
from pamela_rl.studio.adapters import RUN, newest_adapter
from pamela_rl.studio.answers import read_answers
from pamela_rl.studio.asking import only_measures
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, BlindPair, Job, Person, Picture, TrainedAdapter, Worker, now
from pamela_rl.studio.estimate import estimate_training, plan_file
from pamela_rl.studio.jobs import queue
from pamela_rl.studio.jobs.worker import work_until
from pamela_rl.studio.pictures import add_picture, job_folder, picture_file
from pamela_rl.studio.serving import write_settings
from pamela_rl.studio.settings import StudioSettings

ME = "ada"
TRAIN = TrainConfig(
    num_iterations=6, images_per_iteration=4, group_size=2, batch_size=4, checkpoint_every=1,
    validation=ValidationSettings(every=2, num_images=4, strengths=[0.5, 1.0]),
)  # fmt: skip


@dataclass
class Studio:
    settings: StudioSettings
    database: Database

    def begin(self, kind: str, **settings: Any) -> str:
        with self.database.changing() as session:
            return queue.add(session, ME, kind, settings).id

    def work(self) -> None:
        work_until(threading.Event(), self.settings, self.database, once=True)

    def job(self, id: str) -> Job:
        with self.database.session() as session:
            return session.get_one(Job, id)

    def folder_of(self, id: str) -> Path:
        return job_folder(self.settings.folder, ME, id)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    settings = StudioSettings(tmp_path / "studio", num_inference_steps=2, ahead=8, train=TRAIN)
    database = open_database(settings.folder)
    database.migrate()
    with database.changing() as session:
        session.add(Person(id=ME, name="Ada", settings={"prompts": ["a boat", "a tree", "a lamp"]}))
    yield Studio(settings, database)
    database.close()


def rate_some(studio: Studio, count: int = 16) -> None:
    """Bring in pictures with ratings: the lighter the better."""
    with studio.database.changing() as session:
        for number in range(count):
            image = Image.new("RGB", (32, 32), (15 * number, 90, 120))
            picture = add_picture(session, studio.settings.folder, ME, image, prompt="a boat", origin="base")
            session.add(
                Answer(
                    person_id=ME, number=number + 1, said="rating", picture_ids=[picture.id], value=1 + number % 5,
                    at_random=only_measures(picture.id),
                )
            )  # fmt: skip


def give_adapter(studio: Studio, policy: Policy) -> str:
    """Enter an adapter that changes pictures, as a training leaves it."""
    with studio.database.changing() as session:
        job = Job(person_id=ME, kind="train", state="done", place=0.0)
        session.add(job)
        session.flush()
        adapter = TrainedAdapter(person_id=ME, job_id=job.id, round=1, num_answers=16)
        session.add(adapter)
        session.flush()
    for parameter in add_adapter(policy, "own", LoraSettings(), 0):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    save_adapter(policy, "own", ME, studio.folder_of(job.id) / RUN, {"base_model": "world"}, {})
    return adapter.id


def test_pictures_are_drawn_ahead_half_of_them_by_the_newest_adapter(studio: Studio, policy: Policy) -> None:
    adapter = give_adapter(studio, policy)
    job = studio.begin("draw", count=8)
    studio.work()
    assert (studio.job(job).state, studio.job(job).progress["share"]) == ("done", 1.0)
    with studio.database.session() as session:
        pictures = list(session.scalars(select(Picture)))
        assert not session.scalars(select(Worker)).all()
        told = estimate_training(session, studio.settings)
    assert sorted(picture.adapter_id or "" for picture in pictures) == [""] * 4 + [adapter] * 4
    assert {picture.prompt for picture in pictures} == {"a boat", "a tree", "a lamp"}
    assert all((picture.width, picture.height) == (64, 64) for picture in pictures)
    assert plan_file(studio.settings).exists()  # the worker had nothing else to do
    assert told["minutes"][0] >= 1
    assert "guessed" in told["sentence"]


def test_one_prompt_is_shown_at_every_strength_from_the_same_noise(studio: Studio, policy: Policy) -> None:
    job = studio.begin("show", prompt="a boat", adapter=give_adapter(studio, policy))
    studio.work()
    result = studio.job(job).progress["result"]["pictures"]
    assert [row["strength"] for row in result] == [0.0, 0.25, 0.5, 0.75, 1.0]
    files = [picture_file(studio.settings.folder, ME, row["picture"]).read_bytes() for row in result]
    assert len(set(files)) == 5


def test_a_blind_comparison_tells_nothing_until_the_end_and_can_teach(studio: Studio, policy: Policy) -> None:
    job = studio.begin("compare", adapter=give_adapter(studio, policy), against=["base"], pairs=6)
    studio.work()
    assert studio.job(job).message == ""
    with studio.database.changing() as session:
        row = session.get_one(Job, job)
        pairs = list(session.scalars(select(BlindPair).order_by(BlindPair.number)))
        assert len(pairs) == 6
        assert [{pair.left_arm, pair.right_arm} for pair in pairs] == [{"own", "base"}] * 6
        assert sum(pair.left_arm == "own" for pair in pairs) == 3
        while (pair := blind.next_pair(session, row)) is not None:
            assert blind.results(session, row) is None
            blind.choose(session, row, pair.id, "left" if pair.left_arm == "own" else "right")
            session.flush()
        result = blind.results(session, row)
        assert result is not None
        assert result["rows"][0] | {"low": None} == {
            "arm": "base", "wins": 6, "of": 6, "share": 1.0, "low": None, "high": pytest.approx(0.996, abs=0.001)
        }  # fmt: skip
        assert "you like it more" in result["sentence"]
        assert blind.learn(session, row) == 6
        learned = read_answers(session, ME)
        chosen = [answer.picture_ids[int(answer.value or 0)] for answer in learned]
        own = [pair.left_id if pair.left_arm == "own" else pair.right_id for pair in pairs]
        assert chosen == own


def test_a_job_that_cannot_work_says_why_and_the_worker_goes_on(studio: Studio) -> None:
    failing, next_one = studio.begin("train"), studio.begin("draw", count=1)
    studio.work()
    assert studio.job(failing).state == "failed"
    assert "Your answers say nothing" in studio.job(failing).message
    assert studio.job(next_one).state == "done"


@contextmanager
def worker_of(studio: Studio) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, which does not outlive the block; nor does what it trains."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "pamela_rl.studio.jobs.worker", str(write_settings(studio.settings))]
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 1200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_a_training_goes_on_when_its_worker_is_killed_and_when_it_was_paused(studio: Studio) -> None:
    rate_some(studio)
    job = studio.begin("train")
    metrics = studio.folder_of(job) / RUN / "users" / ME / "metrics.jsonl"
    with worker_of(studio):
        wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 2)
    assert studio.job(job).state == "running"
    with studio.database.changing() as session:
        session.get_one(Job, job).lease = now() - timedelta(seconds=1)  # as it is after some seconds
    with worker_of(studio) as worker:
        wait_for(lambda: studio.job(job).attempts == 2)
        with studio.database.changing() as session:
            queue.pause(session, ME, job)
        wait_for(lambda: studio.job(job).state != "running")
        settings = str(studio.folder_of(job) / "train.json")
        assert not [p for p in psutil.process_iter(["cmdline"]) if settings in (p.info["cmdline"] or [])]
        if studio.job(job).state == "paused":
            with studio.database.changing() as session:
                queue.resume(session, ME, job)
        wait_for(lambda: studio.job(job).state == "done")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(120) == 0
    rows = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]
    assert rows == list(range(6))
    with studio.database.session() as session:
        adapter = newest_adapter(session, ME)
        assert adapter is not None
        assert (adapter.round, adapter.job_id) == (1, job)
        assert adapter.num_answers == len([a for a in read_answers(session, ME) if not a.at_random])
    progress = studio.job(job).progress
    assert progress["share"] == 1.0
    assert progress["sheets"] == [0, 2, 4, 6]
    assert all(point["judge"] is not None for point in progress["curve"])


@pytest.mark.slow
def test_a_second_round_goes_on_from_the_first_adapter(studio: Studio, policy: Policy) -> None:
    rate_some(studio)
    job = studio.begin("train", begin_from=give_adapter(studio, policy))
    studio.work()
    assert studio.job(job).message == ""
    assert studio.job(job).state == "done"
    with studio.database.session() as session:
        adapter = newest_adapter(session, ME)
        assert adapter is not None
        assert (adapter.round, adapter.begun_from is not None) == (2, True)
