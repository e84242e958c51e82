from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.report_plots import draw_plots
from pamela_rl.evaluation.report_tables import arms_table_html
from pamela_rl.evaluation.strengths import score_strengths, summarize_strengths
from pamela_rl.types import RewardOutput, Unit

USER = "<script>alert(1)</script>"
PROMPT = "a \"boat\" & 'tree' <img src=x onerror=alert(2)>"
TASTE = "likes <b>dark</b> & warm"
CURVE: list[dict[str, Any]] = [
    {"iteration": 0, "rollout/reward_mean": 1.0, "rollout/judge_mean": None, "train/kl_to_reference": 0.0},
    {"iteration": 1, "rollout/reward_mean": 1.5, "rollout/judge_mean": 1.2, "train/kl_to_reference": 0.1},
]


class Page(HTMLParser):
    """Every tag with its attributes, and all text, as a browser would read them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def strange(by_hand: UserComparison) -> UserComparison:
    images = {arm: torch.rand(4, 3, 8, 8) for arm in by_hand.images}
    return replace(by_hand, user_id=USER, prompts=(PROMPT, PROMPT, "a tree", "a tree"), images=images)


@pytest.fixture
def folder(strange: UserComparison, tmp_path: Path) -> Path:
    context = {"command": 'run --name "<i>x</i>"', "<u>versions</u>": "1"}
    prompts = {USER: {PROMPT: f"{PROMPT}, <em>at night</em>"}}
    summary = {**summarize([strange]), "matrix": {USER: {USER: {"estimate": 0.5, "low": 0.1, "high": 0.9}}}}
    effect = {"attribute": "<em>light</em>", "phrase": "<i>at night</i>", "effect": 1.25, "low": 0.5, "high": 2.0}
    effects = {USER: [{**effect, "population_effect": -0.125}]}
    ends = {USER: (strange.images["own"][:2], strange.images["base"][:2])}
    report = Report(summary, [strange], {USER: CURVE}, {}, {USER: TASTE}, prompts, effects, ends, context)
    write_report(tmp_path, report)
    return tmp_path


@pytest.fixture
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_nothing_a_person_wrote_becomes_markup(page: Page) -> None:
    assert not {"script", "b", "i", "u", "em"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert USER in page.words
    assert PROMPT in page.words
    assert f"This person {TASTE}." in page.words
    assert 'run --name "<i>x</i>"' in page.words
    assert f"Own adapter: {PROMPT}, seed 2" in [a.get("alt") for tag, a in page.tags if tag == "img"]


def test_the_page_fetches_nothing(folder: Path, page: Page) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]+", "", text))
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    sources = [a[name] for _, a in page.tags for name in ("src", "href", "srcset", "data") if name in a]
    assert sources
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)


def test_the_page_holds_every_picture_of_every_arm_and_no_other(page: Page, strange: UserComparison) -> None:
    shown = []
    for tag, attributes in page.tags:
        if tag == "img":
            data = base64.b64decode(str(attributes["src"]).removeprefix("data:image/png;base64,"))
            shown.append(torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).permute(2, 0, 1).float() / 255)
    expected = [images[row] for images in strange.images.values() for row in range(4)]
    assert all(min((image - other).abs().max() for other in shown) <= 0.5001 / 255 for image in expected)
    assert all(min((image - other).abs().max() for other in expected) <= 0.5001 / 255 for image in shown)


def test_the_page_holds_the_verdict_the_figures_and_the_curves(page: Page) -> None:
    text = "".join(page.words)
    assert text.count(f"No clear gain for {USER}: the true rating changed by +0.75 [-2.43, +3.93]") == 1
    assert "+0.75[-2.43, +3.93]" in text
    assert "1,200" in text
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg"] == [
        "Scores while training",
        "Distance from the base",
    ]


def test_the_page_shows_the_predicted_taste_of_the_user(page: Page) -> None:
    text = "".join(page.words)
    assert "<i>at night</i> <em>light</em>+1.25[+0.50, +2.00]-0.12" in text
    shown = [attributes.get("alt") for tag, attributes in page.tags if tag == "img"]
    assert [alt for alt in shown if "would like" in str(alt)] == [
        "would like most, compared with others, 1",
        "would like most, compared with others, 2",
        "would like least, 1",
        "would like least, 2",
    ]


def test_the_figures_are_written_as_json_that_every_reader_understands(folder: Path, strange: UserComparison) -> None:
    facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert facts.pop("context") == {"command": 'run --name "<i>x</i>"', "<u>versions</u>": "1"}
    assert facts.pop("prompts") == {USER: {PROMPT: f"{PROMPT}, <em>at night</em>"}}
    assert facts.pop("matrix")[USER][USER]["estimate"] == 0.5
    assert facts.pop("validation") == {}
    assert facts == summarize([strange])


def test_one_seed_a_prompt_and_no_curves_still_give_a_page(by_hand: UserComparison, tmp_path: Path) -> None:
    single = replace(by_hand, prompts=("a", "b", "c", "d"))
    report = write_report(tmp_path, Report(summarize([single]), [single]))
    text = report.read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"base64,[^\"]+", "", text).lower()
    assert "<svg" not in text
    json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(("unit", "as_text"), [(Unit.SHARE, "95%"), (Unit.SCORE, "0.95")])
def test_only_a_declared_share_is_shown_as_one(by_hand: UserComparison, unit: Unit, as_text: str) -> None:
    scores = {arm: {**values, "faithfulness": np.full(4, 0.95)} for arm, values in by_hand.scores.items()}
    summary = summarize([replace(by_hand, scores=scores, units={"faithfulness": unit})])
    page = Page(arms_table_html(summary["overall"], "true_rating", summary["units"]))
    assert any(word.strip().startswith(as_text) for word in page.words)


def with_strengths(people: list[UserComparison], recommended: dict[str, float]) -> dict[str, Any]:
    """A summary with strengths 0, 0.5 and 1.25 besides the own arm's."""

    def scored(value: float) -> Any:
        return lambda images, prompts, users: RewardOutput(torch.full((len(images),), value))

    def half(prompts: Any, seeds: Any) -> torch.Tensor:
        return torch.rand(len(seeds), 3, 4, 4)

    scorers = {name: scored(3.0) for name in people[0].scores["base"]}
    drawn = [score_strengths(one, {0.5: half, 1.25: half}, scorers) for one in people]
    return {**summarize(people), "strengths": summarize_strengths(drawn, recommended)}


def test_the_page_shows_what_strength_does_for_all_and_for_each(by_hand: UserComparison, tmp_path: Path) -> None:
    people = [by_hand, replace(by_hand, user_id=USER)]
    summary = with_strengths(people, {USER: 0.75})
    page = Page(write_report(tmp_path, Report(summary, people)).read_text(encoding="utf-8"))
    charts = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert (
        charts == [f"{title} over strength" for title in ("Gain over the base model", "Faithfulness and diversity")] * 3
    )
    assert page.words.count("recommended strength 0.75") == 2  # the marks in the charts of the one who has it
    text = "".join(page.words)
    assert re.search(
        r'0.75 is recommended \(dashed line\). Use it with pipe.set_adapters\("script-alert-1-script-\w+", 0.75\)', text
    )
    assert 'Use another with, e.g., pipe.set_adapters("ada", 0.5)' in text
    assert page.words.count("pipe.set_adapters(name, strength)") == 1
    assert page.words.count("strength") == 3 * (2 + 1) + 1  # axes, heads of tables, glossary
    assert "script" not in {tag for tag, _ in page.tags}
    facts = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert facts["strengths"] == summary["strengths"]
    with Image.open(tmp_path / "figures" / "strengths.png") as figure:
        assert figure.width > 2 * figure.height


def test_a_page_without_strengths_does_not_speak_of_them(page: Page, folder: Path) -> None:
    assert "strength" not in "".join(page.words).lower()
    assert not (folder / "figures" / "strengths.png").exists()


@pytest.mark.parametrize(
    ("unit", "has_pairs", "titles"),
    [
        (Unit.SHARE, True, ["Faithfulness and diversity"]),
        (Unit.SCORE, True, ["Faithfulness", "Diversity"]),  # CLIP's score has an axis of its own
        (Unit.SHARE, False, ["Faithfulness"]),
        (None, True, ["Diversity"]),
        (None, False, []),
    ],
)
def test_side_effects_that_share_no_unit_share_no_axis(
    by_hand: UserComparison, tmp_path: Path, unit: Unit | None, has_pairs: bool, titles: list[str]
) -> None:
    scores = by_hand.scores
    if unit is None:
        scores = {arm: {"reward": row["true_rating"]} for arm, row in scores.items()}
    prompts = by_hand.prompts if has_pairs else ("a", "b", "c", "d")
    single = replace(by_hand, scores=scores, prompts=prompts, units={} if unit is None else {"faithfulness": unit})
    summary = with_strengths([single], {})
    page = Page(write_report(tmp_path, Report(summary, [single])).read_text(encoding="utf-8"))
    shown = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert shown == [f"{title} over strength" for title in ("Gain over the base model", *titles)]
    assert tmp_path / "figures" / "strengths.png" in draw_plots(tmp_path / "figures", summary, {})


def test_one_persons_report_speaks_of_no_other_people(page: Page) -> None:
    text = "".join(page.words)
    assert "All users" not in text
    assert "95 % interval over prompts, for this person alone" in text
    assert "over people" not in text


def test_a_report_without_a_judge_says_that_the_reward_judges_itself(by_hand: UserComparison, tmp_path: Path) -> None:
    scores = {arm: {"reward": values["true_rating"]} for arm, values in by_hand.scores.items()}
    alone = replace(by_hand, scores=scores)
    (tmp_path / "my run").mkdir()
    text = write_report(tmp_path / "my run", Report(summarize([alone]), [alone])).read_text(encoding="utf-8")
    said = "".join(Page(text).words)
    assert "The reward judges itself" in said
    assert "never trained against" not in said  # of a judge, which is not there
    assert f"pamela blind-test --run '{tmp_path}/my run' --output_dir '{tmp_path}/my run/blind_test'" in said
    judged = replace(
        by_hand,
        judge_basis="the same ratings through <i>other</i> eyes",
        scores={a: {**v, "judge": v["reward"]} for a, v in scores.items()},
    )
    text = write_report(tmp_path, Report(summarize([judged]), [judged])).read_text(encoding="utf-8")
    assert "judges itself" not in text
    assert "fitted on the same ratings through <i>other</i> eyes." in "".join(Page(text).words)
    heads = [word for word in Page(text).words if word.startswith("gain in ")]
    assert heads == ["gain in judge", "gain in judge", "gain in reward"]  # the pairs' table, then the arms'
