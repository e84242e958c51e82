"""The studio's pages in a real browser: keys, taps and swipes, what is kept while nothing can be sent, and axe on every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import DESKTOP, PHONE, PLACES, answers, findings, person, served, visit
from playwright.sync_api import Browser, Page, Route, expect

from pamela_rl.studio.settings import StudioSettings


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(StudioSettings(folder=tmp_path_factory.mktemp("studio")), pictures=40) as address:
        with person(address) as asking:
            asking.put("/api/settings", json={"source": "own"})
        yield address


def ask_about(address: str, kind: str) -> None:
    with person(address) as asking:
        assert asking.put("/api/settings", json={"kind": kind}).status_code == 200


def begin(page: Page) -> None:
    page.goto("/rate")
    expect(page.locator("#stage img").first).to_be_visible()


def after(page: Page, act: Any) -> None:
    """Act, and wait until the server has confirmed it."""
    with page.expect_response(re.compile(r"/answer$|/api/undo$")) as response:
        act()
    assert response.value.ok


def test_keys_rate_skip_undo_and_leave_out(browser: Browser, address: str) -> None:
    ask_about(address, "rating")
    page, wrong = visit(browser, address, **DESKTOP)
    begin(page)
    before = answers(address)
    first = page.get_attribute("#stage img", "src")
    after(page, lambda: page.keyboard.press("4"))
    expect(page.locator("#stage img")).not_to_have_attribute("src", str(first))
    assert answers(address) == before + 1
    after(page, lambda: page.keyboard.press("u"))
    expect(page.locator("#stage img")).to_have_attribute("src", str(first))
    assert answers(address) == before
    page.keyboard.press("x")
    expect(page.get_by_role("dialog")).to_be_visible()
    after(page, lambda: page.get_by_role("button", name="It is broken").press("Enter"))
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#stage img")).not_to_have_attribute("src", str(first))
    after(page, lambda: page.keyboard.press("s"))
    after(page, lambda: page.keyboard.press("c"))
    assert wrong == []


def test_keys_can_be_switched_off(browser: Browser, address: str) -> None:
    ask_about(address, "rating")
    page, _ = visit(browser, address, **DESKTOP)
    page.goto("/settings")
    page.get_by_label("Single keys").uncheck()
    begin(page)
    before = answers(address)
    page.keyboard.press("4")
    page.wait_for_timeout(300)
    assert answers(address) == before
    after(page, lambda: page.get_by_role("button", name="4, much").press("Enter"))


@pytest.mark.parametrize(("dx", "dy", "value"), [(0.45, 0, 5), (0.2, 0, 4), (0, 0.3, 3), (-0.2, 0, 2), (-0.45, 0, 1)])
def test_a_swipe_rates_by_how_far_it_goes(browser: Browser, address: str, dx: float, dy: float, value: int) -> None:
    ask_about(address, "rating")
    page, wrong = visit(browser, address, **PHONE)
    begin(page)
    box = page.locator("#stage .frame").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx * box["width"], y + dy * box["height"], steps=4)
    expect(page.locator(".badge")).to_contain_text(str(value))
    with page.expect_request(re.compile("/answer$")) as request:
        page.mouse.up()
    assert request.value.post_data_json["value"] == value
    assert wrong == []


def test_two_and_four_are_chosen_by_keys_and_taps(browser: Browser, address: str) -> None:
    page, wrong = visit(browser, address, **DESKTOP)
    begin(page)
    page.get_by_label("two", exact=True).click()
    expect(page.locator("#stage button")).to_have_count(2)
    for act in (
        lambda: page.keyboard.press("ArrowLeft"),
        lambda: page.keyboard.press("ArrowDown"),
        lambda: page.locator("#stage button").nth(1).click(),
    ):
        after(page, act)
        page.wait_for_timeout(350)  # a double click is one
        expect(page.locator("#stage button")).to_have_count(2)
    page.get_by_label("four", exact=True).click()
    expect(page.locator("#stage button")).to_have_count(4)
    after(page, lambda: page.keyboard.press("3"))
    expect(page.locator("#stage button")).to_have_count(4)
    assert wrong == []


def test_an_answer_that_cannot_be_sent_is_kept_and_sent_again(browser: Browser, address: str) -> None:
    ask_about(address, "rating")
    page, _ = visit(browser, address, **DESKTOP)
    begin(page)
    before = answers(address)

    def cut(route: Route) -> None:
        route.abort()

    page.route("**/answer", cut)
    page.keyboard.press("5")
    expect(page.locator("#unsent")).to_contain_text("not sent yet")
    assert answers(address) == before
    page.unroute("**/answer", cut)
    with page.expect_response(re.compile("/answer$")):  # another page of the same browser sends what was kept
        page.goto("/rate")
    expect(page.locator("#unsent")).to_be_hidden()
    assert answers(address) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_on_any_page(browser: Browser, address: str, size: dict[str, Any], scheme: str) -> None:
    page, wrong = visit(browser, address, **size, color_scheme=scheme, reduced_motion="reduce")
    found = []
    for place in (*PLACES, "/sign-in"):
        page.goto(place)
        page.wait_for_load_state("networkidle")
        found += findings(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place} is wider than the screen"
    assert found == []
    assert wrong == []


@pytest.mark.slow
def test_every_control_is_reached_by_the_tab_key_and_shows_it(browser: Browser, address: str) -> None:
    ask_about(address, "rating")
    page, _ = visit(browser, address, **DESKTOP)
    for place in ("/", "/rate", "/library", "/settings", "/people"):
        page.goto(place)
        page.wait_for_load_state("networkidle")
        wanted = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select, textarea, summary')]"
            ".filter((e) => e.checkVisibility() && !e.disabled && e.type !== 'radio').length"
        )
        page.evaluate("document.activeElement.blur()")
        seen: set[int] = set()
        for _ in range(wanted + 12):
            page.keyboard.press("Tab")
            number, shown = page.evaluate(
                "(() => { const e = document.activeElement; window.met ??= []; if (!met.includes(e)) met.push(e);"
                " const s = getComputedStyle(e), p = getComputedStyle(e.parentElement), n = e.nextElementSibling;"
                " const rings = [s, p, n ? getComputedStyle(n) : s].map((x) => x.outlineStyle !== 'none');"
                " return [e === document.body ? -1 : met.indexOf(e), e === document.body || rings.some(Boolean)]; })()"
            )
            assert shown, f"{place}: focus cannot be seen"
            if number >= 0:
                seen.add(number)
        assert len(seen) >= wanted, f"{place}: {wanted - len(seen)} controls are out of reach"
