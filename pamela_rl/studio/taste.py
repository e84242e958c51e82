"""Everybody's taste as the server knows it: brought up to date in the background, so that no page waits for it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from pamela_rl.errors import PamelaError
from pamela_rl.studio.answers import read_answers
from pamela_rl.studio.asking import BLIND_START, NUM_CANDIDATES, Chooser, Wishes, count_unasked, prepare
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Answer, Person, Picture, Question
from pamela_rl.studio.jobs.queue import draw_ahead
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.strings import say

if TYPE_CHECKING:  # these import torch, which takes seconds; the first page does not wait for that
    from torch import Tensor

    from pamela_rl.studio.eyes import Eyes
    from pamela_rl.studio.mind import Mind
    from pamela_rl.studio.progress import Known, Outlook

MOST_MINDS = 100  # kept in memory; others are read again
FIRST_PEOPLE = 3  # for whom pictures are drawn before they open the page
NEWLY_SEEN = 64  # pictures that are encoded at a time, before the next question is chosen
MOST_DESCRIBED = 300  # pictures by which a taste is put in words
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thought:
    """What is known of a person, and how well.

    Attributes:
        mind: The taste; None is nothing yet.
        taught: Answers that it learned from.
        measuring: Answers about pictures at random, which measure it.
        features: Of pictures that were asked about or can be.
        known: What it foretold of those.
        outlook: What more answers would teach.
    """

    mind: Mind | None
    taught: tuple[Answer, ...] = ()
    measuring: tuple[Answer, ...] = ()
    features: dict[str, Tensor] | None = None
    known: Known | None = None
    outlook: Outlook | None = None


class Taste:
    """Learns from answers in a thread of its own, and chooses what to ask.

    Args:
        settings: Of the studio.
        database: With everybody's answers.
    """

    def __init__(self, settings: StudioSettings, database: Database):
        self._settings, self._database = settings, database
        self._eyes: Eyes | None = None
        self._thoughts: OrderedDict[str, Thought] = OrderedDict()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="taste")
        self.failure: str | None = None

    def start(self) -> None:
        """Load what is needed, in the background, after what a worker draws meanwhile is asked for."""
        self._thread.submit(self._first_pictures)
        self._thread.submit(self._open)

    def stop(self) -> None:
        """Finish what is being thought, and nothing more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether pictures can be seen by now."""
        return self._eyes is not None

    def changed(self, person_id: str) -> None:
        """Bring a person's taste up to date and their questions ahead, in the background."""
        with self._lock:
            if person_id in self._waiting:
                return
            self._waiting.add(person_id)
        self._thread.submit(self._think, person_id)

    def forget(self, person_id: str) -> None:
        """Keep nothing of a person in memory."""
        with self._lock:
            self._thoughts.pop(person_id, None)

    def ask(self, person_id: str, wait: bool = True) -> None:
        """Have questions at once, by what is known already, and pictures drawn where they run low.

        Args:
            person_id: Whom to ask.
            wait: Where some are being made already, wait for them.
        """
        turn = self._turns[person_id]
        if turn.acquire(blocking=wait):
            try:
                self._have_drawn(person_id)
                prepare(self._database, person_id, self._chooser(person_id))
            finally:
                turn.release()

    def wait(self) -> None:
        """Wait until all that is known so far was thought about."""
        self._thread.submit(lambda: None).result()

    def thought(self, person_id: str) -> Thought:
        """Return what was known of a person when they were last thought of."""
        with self._lock:
            return self._thoughts.get(person_id) or Thought(None)

    def predict(self, person_id: str, picture_ids: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Foretell ratings of pictures, each with its standard deviation; nothing as long as nothing is known.

        Pictures are seen in the background, soon after they come; of those that were not yet, some are left out.

        Args:
            person_id: Whose ratings.
            picture_ids: Of pictures of theirs; those that are gone are left out.
        """
        if self._eyes is None or not picture_ids:
            return {}
        import torch

        mind = self._brought_up_to_date(person_id).mind
        features = self._eyes.see(self._database, self._settings.folder, picture_ids, NEWLY_SEEN)
        if mind is None or not features:
            return {}
        output = mind.predict(torch.stack(list(features.values())))
        assert output.std is not None
        return dict(zip(features, zip(output.mean.tolist(), output.std.tolist(), strict=True), strict=True))

    def save(self, person_id: str, folder: Path) -> None:
        """Write a person's reward to a folder, as any other reward is saved.

        Raises:
            PamelaError: Nothing is known of them yet.
        """
        thought = self._brought_up_to_date(person_id) if self.ready else Thought(None)
        if thought.mind is None or not thought.taught:
            raise PamelaError(say("jobs.nothing_learned"))
        thought.mind.reward(person_id, thought.taught).save(folder)

    def describe(self, person_id: str) -> dict[str, Any]:
        """Describe a person's taste: in words, by pictures, and how it came to be known."""
        empty: dict[str, Any] = {"words": [], "sentence": "", "liked": [], "disliked": [], "curve": []}
        if self._eyes is None:
            return empty | {"uncertain": self.failure or say("progress.loading", n=0)}
        from pamela_rl.data.phrases import PHOTOGRAPHIC
        from pamela_rl.studio.portrait import portray
        from pamela_rl.world.captions import PHRASEBOOK

        thought = self._brought_up_to_date(person_id)
        if thought.mind is None:
            return empty | {"uncertain": say("progress.none")}
        features, count = thought.features or {}, len(thought.taught)
        with self._database.session() as session:
            some = Picture.id.in_(list(features)[:MOST_DESCRIBED]), Picture.excluded.is_(None)
            pictures = session.scalars(select(Picture).where(*some)).all()
        book = PHRASEBOOK if self._settings.in_world else PHOTOGRAPHIC
        told = portray(person_id, thought.mind, thought.taught, thought.measuring, features, pictures, book)
        return told | {"uncertain": say("progress.uncertain", n=count) if count else say("progress.uncertain_prior")}

    def _first_pictures(self) -> None:
        with self._database.session() as session:
            people = session.scalars(select(Person.id).order_by(Person.created).limit(FIRST_PEOPLE)).all()
        for person in people:
            self._have_drawn(person)

    def _open(self) -> None:
        try:
            import torch

            from pamela_rl.studio.eyes import open_eyes

            torch.set_num_threads(1)  # the server thinks beside a worker that trains
            eyes = open_eyes(self._settings)
        except PamelaError as error:
            self.failure = str(error)
            LOG.exception("what people's taste is learned with cannot be opened")
            return
        self._eyes = eyes

    def _think(self, person_id: str) -> None:
        with self._lock:
            self._waiting.discard(person_id)
        try:
            if self._eyes is not None:
                self._consider(person_id)
            self.ask(person_id)
            if self._eyes is not None and self._eyes.see_more(
                self._database, self._settings.folder, person_id, NEWLY_SEEN
            ):
                self.changed(person_id)
        except Exception:  # of one person's; the thread goes on for the others
            with self._database.session() as session:
                gone = session.get(Person, person_id) is None
            if gone:
                self.forget(person_id)
            else:
                LOG.exception("a taste cannot be brought up to date", extra={"person": person_id})

    def _have_drawn(self, person_id: str) -> None:
        with self._database.session() as session:
            wishes = Wishes.of(session.get_one(Person, person_id))
            left = count_unasked(session, person_id)
        if wishes.source != "own" and left < self._settings.ahead // 2:
            with self._database.changing() as session:
                draw_ahead(session, person_id, self._settings.ahead - left)

    def _consider(self, person_id: str) -> None:
        from pamela_rl.studio.progress import look_ahead, measure

        thought = self._brought_up_to_date(person_id)
        mind, features = thought.mind, thought.features or {}
        if mind is None:
            return
        import torch

        known = measure(mind, thought.measuring, features)
        outlook = look_ahead(mind, torch.stack(list(features.values()))) if len(features) > 1 else None
        self._remember(person_id, replace(thought, known=known, outlook=outlook))

    def _brought_up_to_date(self, person_id: str) -> Thought:
        assert self._eyes is not None
        from pamela_rl.studio.mind import learn

        before = self.thought(person_id)
        with self._database.session() as session:
            answers = read_answers(session, person_id)
            candidates = session.scalars(
                select(Picture.id)
                .where(Picture.person_id == person_id, Picture.excluded.is_(None))
                .order_by(Picture.asked, Picture.id)
                .limit(NUM_CANDIDATES)
            ).all()
        taught = tuple(answer for answer in answers if not answer.at_random)
        measuring = tuple(answer for answer in answers if answer.at_random)
        shown = [picture for answer in answers for picture in answer.picture_ids]
        wanted = [*shown, *candidates]
        features = {picture: seen for picture, seen in (before.features or {}).items() if picture in set(wanted)}
        missing = [picture for picture in wanted if picture not in features]
        if missing:
            features |= self._eyes.see(self._database, self._settings.folder, missing, NEWLY_SEEN + len(shown))
        mind = learn(self._eyes, before.mind, taught, features)
        thought = replace(before, mind=mind, taught=taught, measuring=measuring, features=features)
        self._remember(person_id, thought)
        return thought

    def _remember(self, person_id: str, thought: Thought) -> None:
        with self._lock:
            self._thoughts[person_id] = thought
            self._thoughts.move_to_end(person_id)
            while len(self._thoughts) > MOST_MINDS:
                self._thoughts.popitem(last=False)

    def _chooser(self, person_id: str) -> Chooser | None:
        thought = self.thought(person_id)
        mind, features = thought.mind, thought.features or {}
        if mind is None:
            return None
        known = mind

        def choose(pictures: Sequence[Picture], size: int, asked: Sequence[Question]) -> list[str] | None:
            import torch

            seen = [picture.id for picture in pictures if picture.id in features]
            taught = len(known.learned) + sum(not question.at_random for question in asked)
            if len(seen) < size or taught < BLIND_START:
                return None
            expected = known
            for picture in [p for question in asked if not question.at_random for p in question.picture_ids]:
                if picture in features:
                    expected = expected.imagining(features[picture][None])
            rows = expected.choose(torch.stack([features[picture] for picture in seen]), size)
            return [seen[row] for row in rows]

        return choose
