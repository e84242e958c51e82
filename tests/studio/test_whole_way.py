"""The whole way of a newcomer in a browser: rate, train, compare blind, download; on a desktop and on a phone."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import DESKTOP, PHONE, PLACES, answers, findings, visit
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[2]
SHORT = {
    "ahead": "24",
    "train.num_iterations": "2",
    "train.images_per_iteration": "8",
    "train.group_size": "4",
    "train.batch_size": "8",
    "train.sampling.num_inference_steps": "5",
    "train.validation.every": "1",
    "train.validation.num_images": "4",
    "train.validation.strengths": "[0.5, 1]",
}
PATIENCE = 600_000  # ms for a job, on a machine that does other things too


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A studio as ``make studio`` starts it, with a training made short."""
    command = [sys.executable, str(ROOT / "recipes" / "studio.py"), "--folder", str(tmp_path / "studio"), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    short = [part for name, value in SHORT.items() for part in (f"--{name}", value)]
    with subprocess.Popen([*command, *short], stdout=subprocess.PIPE, text=True, env=environment) as studio:
        assert studio.stdout is not None
        line = studio.stdout.readline()
        try:
            yield line.split(" at ")[1].strip().rstrip("/")
        finally:
            studio.terminate()
            studio.wait(60)


@pytest.fixture
def patient() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE)
    yield
    expect.set_options(timeout=5000)


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_newcomer_goes_the_whole_way(browser: Browser, address: str, size: dict[str, Any], tmp_path: Path) -> None:
    started = time.monotonic()
    page, wrong = visit(browser, address, **size)
    page.set_default_timeout(PATIENCE)
    keys = size is DESKTOP
    page.goto("/")
    keep(page, tmp_path, "start")
    go(page, page.get_by_role("link", name="Begin rating").first, keys)
    expect(page.locator("#stage img")).to_be_visible()
    print(f"a picture to rate after {time.monotonic() - started:.1f} s")
    for turn in range(20):
        rate(page, keys)
        if turn in (0, 9):
            keep(page, tmp_path, f"rate_{turn + 1}")
    assert answers(address) == 20
    expect(page.locator("#line")).to_contain_text("20")
    page.goto("/taste")
    page.wait_for_load_state("networkidle")
    keep(page, tmp_path, "taste")

    page.goto("/train")
    go(page, page.get_by_role("button", name="Train", exact=True), keys)
    expect(page.locator(".job.running")).to_be_visible()
    keep(page, tmp_path, "training")
    expect(page.get_by_role("heading", name="Round 1")).to_be_visible()
    keep(page, tmp_path, "trained")

    page.goto("/compare")
    go(page, page.get_by_role("button", name="Draw the pairs"), keys)
    expect(page.locator("#current .job")).to_be_visible()
    keep(page, tmp_path, "preparing")
    expect(page.locator("#stage img").first).to_be_visible()
    keep(page, tmp_path, "pair")
    while page.locator("#blind").is_visible():
        before = page.locator("#place").inner_text()
        with page.expect_response(re.compile("/api/blind/.*/pairs/")):
            choose(page, keys)
        page.wait_for_function(
            "before => document.getElementById('blind').hidden || document.getElementById('place').textContent !== before",
            arg=before,
        )
    expect(page.get_by_role("heading", name="The result")).to_be_visible()
    expect(page.locator("#result-sentence")).not_to_be_empty()
    keep(page, tmp_path, "result")

    with page.expect_download() as download:
        go(page, page.get_by_role("link", name="Download the adapter"), keys)
    names = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())).namelist()
    assert any(name.endswith(".safetensors") for name in names)
    assert any("README" in name for name in names)
    for place in PLACES:
        page.goto(place)
        page.wait_for_load_state("networkidle")
        keep(page, tmp_path, f"after_{place.strip('/') or 'start'}")
    assert wrong == []


def keep(page: Page, folder: Path, name: str) -> None:
    """Keep a picture of the page, and let axe look at it."""
    page.screenshot(path=folder / f"{name}.png")
    found = findings(page)
    assert found == []


def go(page: Page, control: Any, keys: bool) -> None:
    expect(control).to_be_visible()
    if keys:
        control.press("Enter")
    else:
        control.tap()


def rate(page: Page, keys: bool) -> None:
    """Like what is bright, as a newcomer would: quickly, and not always the same."""
    expect(page.locator("#ask")).not_to_have_attribute("aria-busy", "true")
    shown = page.locator("#stage img").get_attribute("src")
    prompt = page.locator("#prompt").inner_text()
    value = 5 if "night" in prompt else 2 if "noon" in prompt else 3
    with page.expect_response(re.compile("/answer$")):
        if keys:
            page.keyboard.press(str(value))
        else:
            page.locator(f'#scale [data-value="{value}"]').tap()
    expect(page.locator("#stage img")).not_to_have_attribute("src", str(shown))
    page.wait_for_timeout(320)  # two taps within .3 s are one


def choose(page: Page, keys: bool) -> None:
    page.wait_for_timeout(320)
    if keys:
        page.keyboard.press("ArrowLeft")
    else:
        page.locator("#stage button").first.tap()
