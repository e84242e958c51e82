from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from pamela_rl.errors import PamelaError
from pamela_rl.studio.answers import (
    NO_DIFFERENCE,
    AnsweredOtherwise,
    Said,
    comparisons,
    count_answers,
    give,
    learn_from_blind,
    read_answers,
    undo,
)
from pamela_rl.studio.asking import READY_AHEAD, open_questions, prepare
from pamela_rl.studio.database.access import NotFound
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, Person, Picture, Question


def person_with_pictures(
    database: Database, count: int, kind: str = "rating", prompts: Sequence[str] = ("a boat",)
) -> str:
    with database.changing() as session:
        person = Person(name="Ada", settings={"kind": kind})
        session.add(person)
        session.flush()
        for number in range(count):
            prompt = prompts[number % len(prompts)]
            session.add(
                Picture(
                    person_id=person.id, origin="base", width=8, height=8, digest=f"{person.id}{number}", prompt=prompt
                )
            )
    return person.id


def asked(database: Database, person: str) -> list[Question]:
    with database.session() as session:
        return open_questions(session, person)


def answer(database: Database, person: str, question: Question, said: Said) -> int:
    with database.changing() as session:
        return give(session, person, question.id, said).number


def test_the_same_answer_twice_is_stored_once_and_another_is_refused(database: Database) -> None:
    me = person_with_pictures(database, 10)
    assert prepare(database, me) == READY_AHEAD
    first, *_ = asked(database, me)
    assert answer(database, me, first, Said("rating", 4)) == answer(database, me, first, Said("rating", 4)) == 1
    with pytest.raises(AnsweredOtherwise, match="another answer already"):
        answer(database, me, first, Said("rating", 5))
    with database.session() as session:
        assert count_answers(session, me) == 1


def test_answers_sent_at_once_get_numbers_without_gaps(database: Database) -> None:
    me = person_with_pictures(database, 40)
    prepare(database, me, count=20)
    questions = asked(database, me)
    threads = [
        threading.Thread(target=answer, args=(database, me, q, Said("rating", 3))) for q in [*questions, *questions]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as session:
        assert sorted(row.number for row in session.scalars(select(Answer))) == list(range(1, 21))


def test_undo_asks_again_step_by_step_and_brings_back_what_was_left_out(database: Database) -> None:
    me = person_with_pictures(database, 10)
    prepare(database, me)
    first, second, _ = asked(database, me)
    answer(database, me, first, Said("rating", 2))
    answer(database, me, second, Said("exclude", reason="broken"))
    with database.session() as session:
        assert session.get_one(Picture, second.picture_ids[0]).excluded == "broken"
    for question in (second, first):
        with database.changing() as session:
            undo(session, me)
        again = asked(database, me)[0]
        assert again.picture_ids == question.picture_ids
        assert again.id != question.id
    with database.changing() as session:
        assert session.get_one(Picture, second.picture_ids[0]).excluded is None
        assert undo(session, me) is None
        assert read_answers(session, me) == []
    assert answer(database, me, first, Said("rating", 2)) == 1  # sent again by a page that was offline: nothing new


def test_answers_about_a_picture_that_is_left_out_later_teach_nothing(database: Database) -> None:
    me = person_with_pictures(database, 12, "choice")
    prepare(database, me)
    first, second, _ = asked(database, me)
    answer(database, me, first, Said("choice", picture=first.picture_ids[0]))
    with database.changing() as session:
        assert [row.picture_ids for row in read_answers(session, me)] == [first.picture_ids]
        second.picture_ids = first.picture_ids
        session.merge(second)
    answer(database, me, second, Said("exclude", picture=first.picture_ids[1], reason="off_topic"))
    with database.session() as session:
        assert read_answers(session, me) == []


def test_a_picture_that_is_left_out_is_withdrawn_from_open_questions_and_never_asked_again(database: Database) -> None:
    me = person_with_pictures(database, 4, "best_of_four")
    with database.changing() as session:
        pictures = [picture.id for picture in session.scalars(select(Picture))]
        for _ in range(2):
            session.add(Question(person_id=me, kind="best_of_four", picture_ids=pictures, at_random=False))
    first, _ = asked(database, me)
    answer(database, me, first, Said("exclude", picture=pictures[2], reason="not_mine"))
    assert asked(database, me) == []
    assert prepare(database, me) == 0


def test_the_best_of_four_is_three_comparisons_and_no_difference_is_a_tie_of_all() -> None:
    chosen = Answer(said="choice", picture_ids=["a", "b", "c", "d"], value=2)
    assert comparisons(chosen) == [("c", "a", 1.0), ("c", "b", 1.0), ("c", "d", 1.0)]
    assert comparisons(Answer(said="choice", picture_ids=["a", "b"], value=NO_DIFFERENCE)) == [("a", "b", 0.5)]


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        ("rating", Said("rating", 6), "whole number from 1 to 5"),
        ("rating", Said("rating", 2.5), "whole number"),
        ("rating", Said("shout"), "says one of"),
        ("rating", Said("choice", NO_DIFFERENCE), "no answer to what was asked"),
        ("choice", Said("rating", 3), "no answer to what was asked"),
        ("choice", Said("choice"), "Name the picture that you choose"),
        ("choice", Said("choice", picture="elsewhere"), "none of those"),
        ("choice", Said("exclude", reason="broken"), "Name the picture that is to be left out"),
        ("rating", Said("exclude", reason="ugly"), "one of these reasons"),
    ],
)  # fmt: skip
def test_what_answers_no_question_is_refused(tmp_path: Path, kind: str, said: Said, why: str) -> None:
    database = open_database(tmp_path)
    database.migrate()
    me = person_with_pictures(database, 12, kind)
    prepare(database, me)
    question = asked(database, me)[0]
    with pytest.raises(PamelaError, match=why):
        answer(database, me, question, said)
    stranger = person_with_pictures(database, 1)
    with pytest.raises(NotFound):
        answer(database, stranger, question, Said("skip"))
    database.close()


def test_choices_of_a_blind_test_become_answers_that_say_so(database: Database) -> None:
    me = person_with_pictures(database, 4)
    with database.changing() as session:
        pictures = [picture.id for picture in session.scalars(select(Picture))]
        assert (
            learn_from_blind(session, me, [(pictures[0], pictures[1], 1), (pictures[2], pictures[3], NO_DIFFERENCE)])
            == 2
        )
        learned = read_answers(session, me)
        assert [row.source for row in learned] == ["blind", "blind"]
        assert comparisons(learned[0]) == [(pictures[1], pictures[0], 1.0)]
        assert undo(session, me) is None
