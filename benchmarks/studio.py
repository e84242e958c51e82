"""The studio, as newcomers of the world use it, and how fast it is.

python benchmarks/studio.py --what newcomers     # 20 ratings, a training: true rating gained on held-out prompts
python benchmarks/studio.py --what questions     # ratings needed with questions that teach most, against any
python benchmarks/studio.py --what latency       # an answer stored and the next question shown, with 100,000 in the database
python benchmarks/studio.py --what start         # seconds from `make studio` to a picture that can be rated

newcomers: simulated people whom the start reward was not fitted on (``--people``: the seed they are drawn with) answer by the
page's requests, at its rate, with a worker beside it, and begin a training; their adapter and the base model draw held-out
prompts from the same noise, and their true ratings are compared. Each person has pictures of their own.

questions: the same people are asked about pictures of the base model as the studio asks, or always at random, and after every
answer the reward foretells their ratings of other pictures: Spearman's correlation, mean over people; how many answers the
one needs for what the other has after ``--ratings``.

latency: a hundred thousand answers of fifty people are put into the database; one of them goes on answering.

start: the recipe is started in an empty folder, and asked until it shows a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from pamela_rl.agreement.measures import srocc
from pamela_rl.diffusion.adapters import load_adapter_folder
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.intervals import mean_interval
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.studio.adapters import adapter_folder, newest_adapter
from pamela_rl.studio.asking import BLIND_START, only_measures
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, Person, Picture, Question, new_id
from pamela_rl.studio.eyes import open_eyes
from pamela_rl.studio.mind import learn
from pamela_rl.studio.pictures import add_picture, picture_file
from pamela_rl.studio.serving import write_settings
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.app import create_app
from pamela_rl.studio.web.visitor import HERE
from pamela_rl.world.captions import train_and_held_out_prompts
from pamela_rl.world.fitted_rewards import to_pil
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters

NUM_PEOPLE, NUM_RATINGS = 6, 20
SEEDS_PER_PROMPT = 4
NUM_CANDIDATES, NUM_TESTED = 300, 300


class Newcomer:
    """A simulated person at the keyboard.

    Args:
        client: Of the application.
        person_id: Who they are in the studio.
        row: Who they are among the raters.
        raters: The world's people.
        judge: Recognises what pictures show.
        folder: Of the studio.
    """

    def __init__(self, client: TestClient, person_id: str, row: int, raters: Raters, judge: ContentJudge, folder: Path):
        self.id, self._client, self._row, self._raters, self._judge = person_id, client, row, raters, judge
        self._folder, self._rng = folder, np.random.default_rng((5, row))
        self._client.cookies.set(HERE, person_id)
        page = client.get("/rate", headers={"accept": "text/html"}).text
        found = re.search(r'name="csrf" content="([^"]+)"', page)
        assert found is not None
        self._headers = {"X-CSRF-Token": found.group(1)}

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request as this person, and return what came back."""
        self._client.cookies.set(HERE, self.id)
        answer = self._client.request(method, path, json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def opinion(self, picture: dict[str, Any]) -> int:
        """Rate a picture by its pixels."""
        with Image.open(picture_file(self._folder, self.id, picture["id"])) as opened:
            pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).float() / 255
        expected = self._raters.expected_ratings(pixels[None], [picture["prompt"]], self._judge)
        return int(self._raters.rate(expected, np.array([self._row]), self._rng)[0])

    def rate(self, count: int, think: Any) -> dict[str, Any]:
        """Answer so many questions, as slowly as the studio thinks."""
        state = self.ask("GET", "/api/questions")
        for _ in range(count):
            while state["current"] is None:
                time.sleep(0.5)
                state = self.ask("GET", "/api/questions")
            (picture,) = state["current"]["pictures"]
            body = {"said": "rating", "value": self.opinion(picture)}
            state = self.ask("POST", f"/api/questions/{state['current']['id']}/answer", body)
            think()
        return state


@contextmanager
def studio(folder: Path, people: Sequence[str]) -> Iterator[tuple[StudioSettings, Database, TestClient]]:
    """Open a studio with these people in it."""
    settings = StudioSettings(folder=folder)
    database = open_database(folder)
    database.migrate()
    with database.changing() as session:
        known = {person.name for person in session.scalars(select(Person))}
        for name in people:
            if name not in known:
                session.add(Person(id=name, name=name, is_admin=True))
    with TestClient(create_app(settings, database), base_url="http://127.0.0.1") as client:
        yield settings, database, client
    database.close()


def measure_newcomers(folder: Path, seed: int, first: int) -> None:
    """Let newcomers rate and train, and compare their adapters' pictures with the base model's."""
    raters, judge = make_raters(seed=seed, prefix="newcomer"), ContentJudge.load()
    rows = range(first, first + NUM_PEOPLE)
    names = [raters.user_ids[row] for row in rows]
    with studio(folder, names) as (settings, database, client):
        taste = client.app.state.studio.parts["taste"]  # type: ignore[attr-defined]
        file = write_settings(settings)
        worker = subprocess.Popen([sys.executable, "-m", "pamela_rl.studio.jobs.worker", str(file)])
        try:
            taste.wait()
            for name, row in zip(names, rows, strict=True):
                person = Newcomer(client, name, row, raters, judge, settings.folder)
                if newest_of(database, name) is not None:
                    continue
                state = person.rate(NUM_RATINGS, taste.wait)
                print(f"{name}: {state['progress']['line']}", flush=True)
                job = person.ask("POST", "/api/jobs", {"kind": "train", "settings": {}})
                begun = time.monotonic()
                while job["state"] in ("waiting", "running"):
                    time.sleep(2)
                    job = person.ask("GET", f"/api/jobs/{job['id']}")
                print(f"{name}: {job['state']} after {time.monotonic() - begun:.0f} s {job['message']}", flush=True)
        finally:
            worker.terminate()
            worker.wait()
        gains = [true_gain(database, folder, name, row, raters, judge) for name, row in zip(names, rows, strict=True)]
    for name, (recommended, gained, full, kept) in zip(names, gains, strict=True):
        print(f"{name}: {gained:+.2f} at strength {recommended:g}, {full:+.2f} at 1; faithful {kept:.0%} of the base's")
    for place, title in ((1, "at the strength that is recommended"), (2, "at strength 1")):
        mean = mean_interval(np.array([gain[place] for gain in gains]))
        print(f"true rating gained {title}: {mean.estimate:+.2f} [{mean.low or 0:+.2f}, {mean.high or 0:+.2f}]")


def newest_of(database: Database, person_id: str) -> Any:
    """Return a person's newest adapter."""
    with database.session() as session:
        return newest_adapter(session, person_id)


def true_gain(
    database: Database, folder: Path, name: str, row: int, raters: Raters, judge: ContentJudge
) -> tuple[float, float, float, float]:
    """Return strength, true rating gained at it and at strength 1, and faithfulness against the base's, on held-out prompts."""
    adapter = newest_of(database, name)
    assert adapter is not None
    held_out = train_and_held_out_prompts()[1]
    prompts = [prompt for prompt in held_out for _ in range(SEEDS_PER_PROMPT)]
    seeds = [generator_for(77, number).initial_seed() for number in range(len(prompts))]
    pipeline = load_pipeline("world")
    base = PipelineGenerator(pipeline)(prompts, seeds)
    load_adapter_folder(pipeline, adapter_folder(folder, adapter), "own")
    means, kept = [], []
    for images in (
        base,
        *(
            PipelineGenerator(pipeline, "own", strength=strength)(prompts, seeds)
            for strength in (adapter.strength, 1.0)
        ),
    ):
        means.append(float(raters.expected_ratings(images, prompts, judge)[:, row].mean()))
        kept.append(float(judge.faithfulness(images, prompts).float().mean()))
    return adapter.strength, means[1] - means[0], means[2] - means[0], kept[1] / kept[0]


def measure_questions(seed: int, count: int, num_people: int) -> None:
    """Compare questions that teach most with questions at random."""
    raters, judge = make_raters(seed=seed, prefix="newcomer"), ContentJudge.load()
    train, held_out = train_and_held_out_prompts()
    eyes = open_eyes(StudioSettings())
    pictures = {"asked": drawn(train, NUM_CANDIDATES, 21), "tested": drawn(held_out, NUM_TESTED, 22)}
    features, expected = {}, {}
    assert eyes.start is not None
    for part, (images, prompts) in pictures.items():
        features[part] = eyes.start.features(images, prompts).features
        expected[part] = raters.expected_ratings(images, prompts, judge)
    ids = [f"picture-{number}" for number in range(NUM_CANDIDATES)]
    seen = dict(zip(ids, features["asked"], strict=True))
    curves = {}
    for way in ("teaching", "random"):
        scores = np.zeros((num_people, count + 1))
        for row in range(num_people):
            rng = np.random.default_rng((seed, row))
            truth = raters.rate(expected["tested"], np.full(NUM_TESTED, row), rng).astype(np.float64)
            given = raters.rate(expected["asked"], np.full(NUM_CANDIDATES, row), rng)
            scores[row] = asked_curve(eyes, seen, given, features["tested"], truth, way, count, rng)
        curves[way] = scores.mean(axis=0)
        print(way, " ".join(f"{value:.3f}" for value in curves[way]), flush=True)
    for number in range(5, count + 1, 5):
        reached = curves["random"][number]
        needed = np.interp(reached, np.maximum.accumulate(curves["teaching"]), np.arange(count + 1))
        print(
            f"what {number} at random give ({reached:.3f}): {needed:.1f} that teach most, {1 - needed / number:.0%} fewer"
        )


def asked_curve(
    eyes: Any, seen: dict[str, torch.Tensor], given: NDArray[np.int64], tested: torch.Tensor, truth: NDArray[np.float64],
    way: str, count: int, rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the correlation after 0, 1, … answers; two questions are always asked before the answer to the first is known."""
    ids = list(seen)
    order = [ids[int(row)] for row in rng.permutation(len(ids))]
    mind, answers, ahead, scores = learn(eyes, None, [], seen), list[Answer](), list[str](), []
    for number in range(count + 1):
        assert mind is not None
        scores.append(srocc(mind.predict(tested).mean.numpy(), truth))
        while len(ahead) < 3:
            imagined = mind
            for picture in ahead:
                imagined = imagined.imagining(seen[picture][None])
            left = [picture for picture in order if not only_measures(picture)]
            chosen = way == "teaching" and len(answers) + len(ahead) >= BLIND_START
            rows = imagined.choose(torch.stack([seen[picture] for picture in left]), 1) if chosen else [0]
            ahead.append(left[rows[0]])
            order.remove(left[rows[0]])
        picture = ahead.pop(0)
        value = float(given[ids.index(picture)])
        answers.append(Answer(id=number + 1, said="rating", picture_ids=[picture], value=value))
        mind = learn(eyes, mind, answers, seen)
    return np.array(scores)


def drawn(prompts: Sequence[str], count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Draw pictures of the base model, the prompts in turn."""
    asked = [prompts[number % len(prompts)] for number in range(count)]
    seeds = [generator_for(seed, number).initial_seed() for number in range(count)]
    return PipelineGenerator(load_pipeline("world"))(asked, seeds), asked


def measure_latency(folder: Path, num_answers: int = 100_000, num_people: int = 50, count: int = 200) -> None:
    """Time answers while the database holds many, one person answering as fast as pages reply."""
    names = [f"person-{number}" for number in range(num_people)]
    images, prompts = drawn(train_and_held_out_prompts()[0], count + 60, 23)
    with studio(folder, names) as (settings, database, client):
        fill(database, names, num_answers)
        me = names[0]
        with database.changing() as session:
            for image, prompt in zip(images, prompts, strict=True):
                add_picture(session, settings.folder, me, to_pil(image), prompt=prompt, origin="base", seed=0)
        taste = client.app.state.studio.parts["taste"]  # type: ignore[attr-defined]
        person = Newcomer(client, me, 0, make_raters(), ContentJudge.load(), settings.folder)
        state = person.ask("GET", "/api/questions")
        taste.wait()
        seconds = []
        for number in range(count):
            current, begun = state["current"], time.perf_counter()
            state = person.ask(
                "POST", f"/api/questions/{current['id']}/answer", {"said": "rating", "value": number % 5 + 1}
            )
            assert client.get(state["current"]["pictures"][0]["src"]).status_code == 200
            seconds.append(time.perf_counter() - begun)
            time.sleep(0.3)  # nobody answers faster
        middle, late = np.quantile(seconds, [0.5, 0.99])
        print(f"{num_answers:,} answers in the database: median {1000 * middle:.0f} ms, 99 % {1000 * late:.0f} ms")


def fill(database: Database, people: Sequence[str], num_answers: int) -> None:
    """Put answers into the database."""
    each = num_answers // len(people)
    for person in people:
        pictures = [new_id() for _ in range(each)]
        asked = [new_id() for _ in range(each)]
        with database.changing() as session:
            rows = [
                {"id": p, "person_id": person, "origin": "upload", "width": 64, "height": 64, "digest": p, "asked": 1}
                for p in pictures
            ]
            session.execute(Picture.__table__.insert(), rows)  # type: ignore[attr-defined]
            questions = [
                {"id": q, "person_id": person, "kind": "rating", "picture_ids": [p], "at_random": n % 5 == 4,
                 "state": "answered"}
                for n, (q, p) in enumerate(zip(asked, pictures, strict=True))
            ]  # fmt: skip
            session.execute(Question.__table__.insert(), questions)  # type: ignore[attr-defined]
            answers = [
                {"person_id": person, "number": n + 1, "question_id": q, "said": "rating", "picture_ids": [p],
                 "value": n % 5 + 1, "at_random": n % 5 == 4}
                for n, (q, p) in enumerate(zip(asked, pictures, strict=True))
            ]  # fmt: skip
            session.execute(Answer.__table__.insert(), answers)  # type: ignore[attr-defined]


def measure_start(folder: Path) -> None:
    """Start the recipe, and wait for a picture."""
    recipe = Path(__file__).parents[1] / "recipes" / "studio.py"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(recipe), "--folder", str(folder), "--port", "0", "--open_browser", "false"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = next(line.split()[-1] for line in process.stdout if "http" in line)
        print(f"page after {time.perf_counter() - begun:.1f} s", flush=True)
        while True:
            with urllib.request.urlopen(f"{address}api/questions") as reply:
                state = json.load(reply)
            if state["current"] is not None:
                break
            time.sleep(0.2)
        print(f"a picture to rate after {time.perf_counter() - begun:.1f} s")
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure what is asked for."""
    os.environ["TQDM_DISABLE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("newcomers", "questions", "latency", "start"), required=True)
    parser.add_argument(
        "--people", type=int, default=31, help="seed of the simulated people; settings were chosen on 30"
    )
    parser.add_argument("--first", type=int, default=0, help="of them, the first who rates")
    parser.add_argument("--ratings", type=int, default=30, help="of questions")
    parser.add_argument("--num_people", type=int, default=40, help="of questions")
    parser.add_argument("--folder", type=Path, help="of the studio; one that was cut off goes on. None is a new one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="studio-"))
    if given.what == "newcomers":
        measure_newcomers(folder, given.people, given.first)
    elif given.what == "questions":
        measure_questions(given.people, given.ratings, given.num_people)
    elif given.what == "latency":
        measure_latency(folder)
    else:
        measure_start(folder / "studio")


if __name__ == "__main__":
    main()
