from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from pamela_rl.studio.answers import Said, give
from pamela_rl.studio.asking import RANDOM_SHARE, only_measures, open_questions, prepare
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Person, Picture, Question
from tests.studio.test_answers import person_with_pictures


@pytest.fixture
def studio(tmp_path: Path) -> Database:
    database = open_database(tmp_path)
    database.migrate()
    return database


def rate_all(database: Database, person: str, count: int) -> list[Question]:
    """Answer questions, chosen where they are not at random as the last of the pictures, and return them."""
    said = []
    for _ in range(count):
        prepare(database, person, lambda pictures, size, asked: [picture.id for picture in pictures[-size:]])
        with database.changing() as session:
            questions = open_questions(session, person)
            if not questions:
                break
            give(session, person, questions[0].id, Said("rating", 3))
            said.append(questions[0])
    return said


def test_every_fifth_is_at_random_and_only_those_measure(studio: Database) -> None:
    said = rate_all(studio, person_with_pictures(studio, 100), 15)
    assert [question.at_random for question in said] == [
        number % RANDOM_SHARE == RANDOM_SHARE - 1 for number in range(15)
    ]
    assert all(only_measures(question.picture_ids[0]) == question.at_random for question in said)


def test_no_picture_is_rated_twice_and_all_are_rated_in_the_end(studio: Database) -> None:
    said = rate_all(studio, person_with_pictures(studio, 9), 12)
    assert sorted(Counter(question.picture_ids[0] for question in said).values()) == [1] * 9


def test_pictures_at_random_are_spread_over_prompts(studio: Database) -> None:
    me = person_with_pictures(studio, 200, prompts=["many"] * 39 + ["few"])
    prepare(studio, me, count=20)
    with studio.session() as session:
        pictures = [question.picture_ids[0] for question in open_questions(session, me)]
        few = session.scalars(select(Picture).where(Picture.id.in_(pictures), Picture.prompt == "few")).all()
    assert len(few) >= 3  # of five that there are; a draw of 20 out of 200 has one in two


def test_questions_are_withdrawn_when_another_kind_or_other_pictures_are_wanted(studio: Database) -> None:
    me = person_with_pictures(studio, 30)
    for settings in ({"kind": "best_of_four"}, {"kind": "rating", "source": "own"}):
        prepare(studio, me)
        with studio.changing() as session:
            session.get_one(Person, me).settings = settings
        prepare(studio, me)
        with studio.session() as session:
            kinds = {question.kind for question in open_questions(session, me)}
        assert kinds == ({"best_of_four"} if len(settings) == 1 else set())  # all pictures here are drawn
