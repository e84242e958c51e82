from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Route

from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.world.scenes import draw_scenes, random_scenes

PHONE = {"width": 390, "height": 844}
VALIDATION: list[dict[str, Any]] = [
    {
        "iteration": 5 * row,
        "eval/reward_mean": 3 + 0.2 * row,
        "eval/judge_mean": 3 + 0.2 * row - 0.03 * row**2,
        "eval/faithfulness_mean": 1 - 0.02 * row,
        "eval/diversity": 0.3,
        "eval/kl_to_reference": 0.001 * row,
    }
    for row in range(8)
]


@pytest.fixture
def report(by_hand: UserComparison, tmp_path: Path) -> Path:
    drawn = torch.from_numpy(draw_scenes(random_scenes(40, 1), 1)).permute(0, 3, 1, 2).float() / 255
    arms = ("base", "own", "other", "prompt_search", "other_prompt_search", "own_and_search", "best_of_n", "rewriter")
    scores = {arm: by_hand.scores["own" if arm != "base" else "base"] for arm in arms}
    images = {arm: drawn[4 * row : 4 * row + 4] for row, arm in enumerate(arms)}
    ada = replace(by_hand, images=images, scores=scores, images_spent=dict.fromkeys(arms, 1440))
    comparisons = [ada, replace(ada, user_id="<img src=x onerror=document.title='broken'>")]
    summary = summarize(comparisons)
    cell = {"estimate": 0.5, "low": 0.1, "high": 0.9}
    summary["matrix"] = {one.user_id: {two.user_id: cell for two in comparisons} for one in comparisons}
    prompts = {"ada": {"a boat": "a close-up of a boat, at night, in earthy colours, seen from below"}}
    tastes = {"ada": "likes at night, in earthy colours; dislikes at noon"}
    context = {"command": "python recipes/evaluate.py --run " + "a-very-long-name/" * 12}
    return write_report(
        tmp_path, Report(summary, comparisons, {}, {"ada": VALIDATION}, tastes, prompts, context=context)
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desk"])
def test_the_report_opens_from_disk_fetches_nothing_and_fits(
    browser: Browser, report: Path, size: dict[str, int], dark: bool
) -> None:
    fetched: list[str] = []

    def stop(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            fetched.append(route.request.url)
            route.abort()

    page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.route("**/*", stop)
    page.goto(report.as_uri())
    assert (fetched, messages) == ([], [])
    assert page.title() == "pamela_rl: comparison"
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.locator("img").count() > 0
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(25, 24, 21)" if dark else "rgb(251, 250, 247)"
    )
    assert page.get_by_text("would have stopped there").count() == 1
    assert page.locator(".heat.mine").count() == 2
    page.close()


def test_a_picture_is_enlarged_by_a_click_and_put_back_by_another(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport=PHONE)  # type: ignore[arg-type]
    page.goto(report.as_uri())
    picture = page.locator(".pair img").first
    small = picture.bounding_box()
    picture.click()
    large = picture.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 2 * small["width"]
    assert large["x"] >= 0
    assert large["x"] + large["width"] <= PHONE["width"]
    picture.click()
    assert picture.bounding_box() == small
    page.close()
