from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from pamela_rl.rewards.opening import open_reward
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, Job, Picture, Question
from pamela_rl.studio.people import ensure_first
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.taste import Taste
from pamela_rl.studio.web.app import create_app
from pamela_rl.world.fitted_rewards import to_pil
from pamela_rl.world.ratings import draw_rated_images
from tests.studio.visitors import Browser

HERE = "http://127.0.0.1"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[Browser, Taste, Database, str]]:
    settings = StudioSettings(folder=tmp_path / "studio")
    database = open_database(settings.folder)
    database.migrate()
    images, prompts = draw_rated_images(40, 8)
    with database.changing() as session:
        me = ensure_first(session).id
        for image, prompt in zip(images, prompts, strict=True):
            add_picture(session, settings.folder, me, to_pil(image), prompt=prompt, origin="base", seed=0)
    app = create_app(settings, database)
    with Browser(app, base_url=HERE) as browser:
        yield browser, app.state.studio.parts["taste"], database, me
    database.close()


def test_a_newcomer_answers_and_their_taste_takes_shape(
    studio: tuple[Browser, Taste, Database, str], tmp_path: Path
) -> None:
    browser, taste, database, me = studio
    state = browser.get("/api/questions").json()
    assert state["progress"] == {
        "answers": 0, "line": state["progress"]["line"], "enough": False, "known": None
    }  # fmt: skip
    assert "at_random" not in json.dumps(state)
    shown = []
    for number in range(11):
        current, following = state["current"], state["next"]
        (picture,) = current["pictures"]
        shown.append(picture["id"])
        body = {"said": "rating", "value": number % 4 + 1}
        state = browser.post(f"/api/questions/{current['id']}/answer", json=body).json()
        assert state["answered"] == number + 1
        assert following is None or state["current"] == following | {"number": number + 2}  # as it was loaded ahead
        taste.wait()
    assert len(set(shown)) == 11
    state = browser.get("/api/questions").json()
    assert state["progress"]["answers"] == 11
    assert state["progress"]["known"]["of"] == 1  # of two pictures at random
    assert "After 11 answers I predict" in state["progress"]["line"]
    assert "9 more would help" in state["progress"]["line"]
    told = browser.get("/api/taste").json()
    assert {row["phrase"] for row in told["words"]} & {"at night", "at noon"}
    assert all(row["low"] <= row["effect"] <= row["high"] for row in told["words"])
    assert [row["answers"] for row in told["curve"]][-1] == 9
    predicted = taste.predict(me, shown)
    assert all(1 <= mean <= 5 and std > 0 for mean, std in predicted.values())
    assert len(predicted) == 11
    taste.save(me, tmp_path / "reward")
    assert me in open_reward(tmp_path / "reward").model.user_ids
    with database.session() as session:  # 29 pictures are left, more than half of what is kept ahead
        assert session.scalars(select(Job)).all() == []
        assert sum(question.at_random for question in session.scalars(select(Question))) == 2


def test_undo_forgets_what_was_learned_and_a_picture_that_is_left_out_teaches_nothing(
    studio: tuple[Browser, Taste, Database, str],
) -> None:
    browser, taste, database, me = studio
    state = browser.get("/api/questions").json()
    taste.wait()
    with database.session() as session:
        pictures = session.scalars(select(Picture.id).limit(5)).all()
    before = taste.predict(me, pictures)
    first = state["current"]
    state = browser.post(f"/api/questions/{first['id']}/answer", json={"said": "rating", "value": 5}).json()
    after = taste.predict(me, pictures)
    assert after != before
    again = browser.post("/api/undo").json()
    assert again["current"]["pictures"] == first["pictures"]
    assert taste.predict(me, pictures) == before
    body = {"said": "exclude", "reason": "off_topic"}
    assert browser.post(f"/api/questions/{again['current']['id']}/answer", json=body).status_code == 200
    assert taste.predict(me, pictures) == before
    with database.session() as session:
        assert session.get_one(Picture, first["pictures"][0]["id"]).excluded == "off_topic"
        assert [answer.said for answer in session.scalars(select(Answer).order_by(Answer.number))] == [
            "rating",
            "exclude",
        ]


def test_another_answer_to_the_same_question_is_refused_and_settings_change_what_is_asked(
    studio: tuple[Browser, Taste, Database, str],
) -> None:
    browser, _, _, _ = studio
    first = browser.get("/api/questions").json()["current"]
    answers = [
        browser.post(f"/api/questions/{first['id']}/answer", json={"said": "rating", "value": v}) for v in (2, 2, 3)
    ]
    assert [reply.status_code for reply in answers] == [200, 200, 409]
    assert answers[0].json()["answered"] == answers[1].json()["answered"]
    assert browser.put("/api/settings", json={"kind": "best_of_four"}).json()["kind"] == "best_of_four"
    four = browser.get("/api/questions").json()["current"]
    assert (four["kind"], len(four["pictures"])) == ("best_of_four", 4)
    chosen = {"said": "choice", "picture": four["pictures"][2]["id"]}
    assert browser.post(f"/api/questions/{four['id']}/answer", json=chosen).json()["answered"] == 2
    assert browser.put("/api/settings", json={"kind": "shouting"}).status_code == 400
    waiting = browser.put("/api/settings", json={"source": "own", "kind": "rating"})
    assert waiting.json() == {"kind": "rating", "source": "own", "prompts": []}
    state = browser.get("/api/questions").json()
    assert state["current"] is None
    assert "Add some of your own" in state["waiting"]
    assert browser.post("/api/jobs", json={"kind": "train"}).json()["error"].startswith("There are 2 answers, too few")
