from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disk_pages import open_from_disk
from PIL import Image
from playwright.sync_api import Browser, Page

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.evaluation.blind_choices import read_choices
from pamela_rl.evaluation.blind_page import write_page
from pamela_rl.evaluation.blind_pairs import Pair, choose_pairs
from pamela_rl.evaluation.blind_results import choices_table, summarize_choices
from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.evaluation.gallery import ComparisonImage, load_gallery, save_gallery
from pamela_rl.world.scenes import draw_scenes, random_scenes

ARMS = ("plain-zeppelin", "tuned-zeppelin", "foreign-zeppelin")
PROMPTS = (
    "a boat </script><script>document.title='taken'</script> & <b>x</b>",
    "a tree",
    "a house by the sea",
    "a cat",
)
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ComparisonImage]:
    """Four prompts, two seeds, three arms for one person, drawn scenes."""
    grid = [(prompt, seed) for prompt in PROMPTS for seed in SEEDS]
    drawn = draw_scenes(random_scenes(3 * len(grid), 0), 0)
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).float().div(255).split(len(grid))
    comparison = UserComparison(
        "Ada & co", tuple(p for p, _ in grid), tuple(s for _, s in grid), dict(zip(ARMS, images)), {}, {}
    )
    folder = tmp_path_factory.mktemp("gallery")
    save_gallery(folder, [comparison])
    return load_gallery(folder)


def opened(browser: Browser, page_file: Path, **context: Any) -> tuple[Page, list[str]]:
    allowed = (page_file.as_uri(), "data:image/")
    return open_from_disk(browser, page_file, lambda url: url.startswith(allowed), **context)


def ready(page: Page, number: int, total: int) -> None:
    said = re.compile(f"^Pair {number} of {total}:")
    page.locator("#spoken", has_text=said).wait_for(state="attached")


def test_a_person_answers_by_key_and_click_reloads_corrects_and_saves(
    browser: Browser, images: list[ComparisonImage], tmp_path: Path
) -> None:
    pairs = choose_pairs(images, 8, 0.25, seed=1)
    page_file = write_page(tmp_path, "Ada & co", pairs)
    page, wrong = opened(browser, page_file, viewport={"width": 1200, "height": 900})
    given = ["left", "right", "tie", "left", "right", "tie", "left", "right", "left", "right"]
    keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown"}
    page.keyboard.press("Enter")  # the button that begins has the focus
    for number, answer in enumerate(given, start=1):
        ready(page, number, 10)
        assert page.text_content("#prompt") == pairs[number - 1].left.prompt
        if number == 5:
            page.reload()
            ready(page, 5, 10)  # the four given before are kept
        if number == 7:  # correct the one before: left, then think again
            page.keyboard.press("Backspace")
            ready(page, 6, 10)
            assert page.get_attribute("[data-choice=tie]", "aria-pressed") == "true"
            page.click("[data-choice=left]")
            ready(page, 7, 10)
        if number % 2:
            page.keyboard.press(keys[answer])
        else:
            page.click(f"[data-choice={answer}]")
    page.wait_for_selector("#end:not([hidden])")
    assert "zeppelin" not in page.content()
    assert page.title() == "Which picture do you like better?"
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename.startswith("choices-ada-co-")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    given[5] = "left"
    (answers,) = read_choices([saved], tmp_path / "keys")
    assert (answers.user_id, answers.num_open) == ("Ada & co", 0)
    first = [(pair, answer) for pair, answer in zip(pairs, given) if pair.repeats is None]
    assert [(c.prompt, c.seed, c.left, c.right, c.answer) for c in answers.choices] == [
        (pair.left.prompt, pair.left.seed, pair.left.arm, pair.right.arm, answer) for pair, answer in first
    ]
    assert len(answers.repeated) == 2
    assert wrong == []


def test_each_picture_is_shown_on_the_side_that_the_key_says(
    browser: Browser, images: list[ComparisonImage], tmp_path: Path
) -> None:
    pairs = choose_pairs(images, 2, 0.5, seed=3)
    page, wrong = opened(browser, write_page(tmp_path, "ada", pairs))
    page.click("#begin")
    sources = "[...document.querySelectorAll('#pair img')].map((image) => image.src)"
    for number, pair in enumerate(pairs, start=1):
        ready(page, number, len(pairs))
        for image, source in zip((pair.left, pair.right), page.evaluate(sources)):
            shown = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
            np.testing.assert_array_equal(np.asarray(shown), np.asarray(Image.open(image.file)))
        assert page.evaluate("getComputedStyle(document.querySelector('#pair img')).imageRendering") == "pixelated"
        page.keyboard.press("ArrowLeft")
    assert wrong == []


def test_a_phone_shows_both_sides_without_scrolling_sideways(
    browser: Browser, images: list[ComparisonImage], tmp_path: Path
) -> None:
    long = [
        ComparisonImage(p.user_id, p.arm, "a" * 90 if p.prompt == "a cat" else p.prompt, p.seed, p.file) for p in images
    ]
    pairs = choose_pairs([p for p in long if p.prompt == "a" * 90], 1)
    page_file = write_page(tmp_path, "ada", pairs)
    page, wrong = opened(browser, page_file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.tap("#begin")
    ready(page, 1, 1)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for button in page.query_selector_all("button:visible"):
            box = button.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 44
        if page.is_visible("#pair"):
            left, right = (image.bounding_box() for image in page.query_selector_all(".picture"))
            assert left is not None
            assert right is not None
            assert left["y"] == right["y"]
            assert left["x"] + left["width"] < right["x"]
            page.tap("[data-choice=right]")
            page.wait_for_selector("#end:not([hidden])")
    assert wrong == []


def test_what_the_page_may_do_is_written_down_and_names_nothing_outside(
    browser: Browser, images: list[ComparisonImage], tmp_path: Path
) -> None:
    page, _ = opened(browser, write_page(tmp_path, "ada", choose_pairs(images, 4)))
    tried = page.evaluate("""async () => {
        const refused = [];
        document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
        await fetch('https://example.org').catch(() => {});
        const image = new Image(); image.src = 'https://example.org/x.png';
        const script = document.createElement('script'); script.textContent = 'window.taken = 1';
        document.body.append(script);
        await new Promise((done) => setTimeout(done, 50));
        return [refused.sort(), 'taken' in window]; }""")
    assert tried == [["connect-src", "img-src", "script-src-elem"], False]


def test_every_arm_meets_every_arm_equally_often_on_either_side_and_on_every_prompt(
    images: list[ComparisonImage],
) -> None:
    pairs = choose_pairs(images, 12, 0, seed=5)
    assert all((p.left.prompt, p.left.seed) == (p.right.prompt, p.right.seed) for p in pairs)
    assert set(Counter((p.left.arm, p.right.arm) for p in pairs).values()) == {2}
    assert set(Counter((frozenset((p.left.arm, p.right.arm)), p.left.prompt) for p in pairs).values()) == {1}
    assert len(choose_pairs(images, 1000, 0)) == 24
    chosen = choose_pairs(images, 1000, 0, arms=ARMS[:2])
    assert {arm for p in chosen for arm in (p.left.arm, p.right.arm)} == set(ARMS[:2])
    assert choose_pairs(images, 12, seed=5) == choose_pairs(images, 12, seed=5) != choose_pairs(images, 12, seed=6)


def test_pairs_shown_again_have_their_sides_swapped_and_come_later(images: list[ComparisonImage]) -> None:
    pairs = choose_pairs(images, 20, 0.2, seed=7)
    again = [(place, pair) for place, pair in enumerate(pairs) if pair.repeats is not None]
    assert (len(pairs), len(again)) == (24, 4)
    for place, pair in again:
        assert pair.repeats is not None
        assert pair.repeats < 10 <= place
        assert (pair.left, pair.right) == (pairs[pair.repeats].right, pairs[pair.repeats].left)


def test_settings_that_cannot_work_are_refused(images: list[ComparisonImage]) -> None:
    with pytest.raises(ConfigError, match="num_pairs is 0; use 1 or more"):
        choose_pairs(images, 0)
    with pytest.raises(ConfigError, match=r"repeated is 0\.6; use 0 to 0\.5"):
        choose_pairs(images, 4, 0.6)
    with pytest.raises(ConfigError, match="arms names 'mine', but the pictures are of plain-zeppelin, tuned-zeppelin"):
        choose_pairs(images, 4, arms=("mine", ARMS[0]))
    with pytest.raises(ConfigError, match="the arms plain-zeppelin share no prompt and seed"):
        choose_pairs(images, 4, arms=ARMS[:1])


def answered(folder: Path, user: str, pairs: list[Pair], likes: str) -> Path:
    """Write a page and the choices of somebody who prefers one arm and sees no difference between others."""
    write_page(folder, user, pairs)
    key = json.loads((folder / "keys" / f"{user}.json").read_text(encoding="utf-8"))
    choices = {
        token: "left" if pair["left"] == likes else "right" if pair["right"] == likes else "tie"
        for token, pair in key["pairs"].items()
    }
    path = folder / f"choices-{user}.json"
    path.write_text(json.dumps({"page": key["page"], "choices": choices}), encoding="utf-8")
    return path


def test_win_rates_ties_and_consistency_are_what_they_are_on_paper(
    images: list[ComparisonImage], tmp_path: Path
) -> None:
    plain, tuned, foreign = ARMS
    pairs = choose_pairs(images, 24, 0.25)
    files = [answered(tmp_path, "ada", pairs, tuned), answered(tmp_path, "bob", pairs, plain)]
    content = json.loads(files[1].read_text(encoding="utf-8"))
    second = next(place for place, pair in enumerate(pairs) if pair.repeats is not None)
    token, answer = list(content["choices"].items())[second]
    content["choices"][token] = {"left": "right", "right": "tie", "tie": "left"}[answer]  # bob is once not consistent
    files[1].write_text(json.dumps(content), encoding="utf-8")
    summary = summarize_choices(read_choices(files, tmp_path / "keys"))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    ada, bob, overall = summary["users"]["ada"], summary["users"]["bob"], summary["overall"]
    assert (ada["num_choices"], ada["num_open"], ada["repeated"], ada["same"]) == (24, 0, 6, 6)
    assert (bob["repeated"], bob["same"]) == (6, 5)
    assert ada["ties"] == pytest.approx(1 / 3)
    assert ada["wins"][tuned][plain] == {"estimate": 1.0, "low": None, "high": None, "num_choices": 8}
    assert ada["wins"][plain][foreign]["estimate"] == 0.5
    assert overall["wins"][tuned][plain] == {"estimate": 0.5, "low": 0.0, "high": 1.0, "num_choices": 16}
    assert overall["wins"][tuned][foreign]["estimate"] == 0.75
    assert overall["elo"][tuned]["estimate"] == pytest.approx(overall["elo"][plain]["estimate"])
    assert overall["elo"][tuned]["estimate"] > 1000 > overall["elo"][foreign]["estimate"]
    table = choices_table(summary)
    assert "75% [0%, 100%]" in table  # two people, one degree of freedom
    assert "5 of 6" in table


def test_wrong_files_are_refused_by_name_and_entry(images: list[ComparisonImage], tmp_path: Path) -> None:
    path = answered(tmp_path, "ada", choose_pairs(images, 4, 0), ARMS[0])
    good = json.loads(path.read_text(encoding="utf-8"))
    token = next(iter(good["choices"]))
    wrong: list[tuple[Any, str]] = [
        ({**good, "page": "feed"}, r"choices-ada\.json: page is 'feed', and no key in .*keys is of that page; give"),
        ([1], r"choices-ada\.json: page is None"),
        ({**good, "choices": {}}, r"choices-ada\.json: choices is \{\}; there is nothing to count"),
        ({**good, "choices": {"beef": "left"}}, "choices has 'beef', a pair that its page does not show; remove"),
        (
            {**good, "choices": {token: "both"}},
            rf"choices\['{token}'\] is 'both'; answers are 'left', 'right' or 'tie'",
        ),
        ({**good, "choices": {token: ["left"]}}, rf"choices\['{token}'\] is \['left'\]; answers are"),
    ]
    for content, sentence in wrong:
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(DataError, match=sentence):
            read_choices([path], tmp_path / "keys")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"is not JSON .* as the page saved it"):
        read_choices([path], tmp_path / "keys")
    path.write_text(json.dumps(good), encoding="utf-8")
    with pytest.raises(DataError, match=r"copy\.json: .*choices-ada\.json is of the same page; keep the newer"):
        read_choices([path, shutil.copy(path, tmp_path / "copy.json")], tmp_path / "keys")
    with pytest.raises(DataError, match=r"gone\.json cannot be read \(No such file or directory\)"):
        read_choices([tmp_path / "gone.json"], tmp_path / "keys")
    with pytest.raises(DataError, match=r"there are no keys in .*; give the folder in which the pages were made"):
        read_choices([path], tmp_path / "pages")
