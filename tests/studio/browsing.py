"""A studio that is served here, and a browser on it that may ask for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

from pamela_rl.studio.database.opening import open_database
from pamela_rl.studio.people import ensure_first
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.app import create_app
from pamela_rl.world.captions import caption
from pamela_rl.world.scenes import ATTRIBUTES, draw_scene, random_scenes

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PLACES = ("/", "/rate", "/taste", "/train", "/compare", "/draw", "/library", "/settings", "/people", "/nowhere")


@contextmanager
def served(settings: StudioSettings, pictures: int = 0) -> Iterator[str]:
    """Serve a studio without workers, in a thread, where its person has pictures of the world's scenes; its address."""
    database = open_database(settings.folder, settings.database)
    database.migrate()
    with database.changing() as session:
        me = ensure_first(session).id
        for number, scene in enumerate(random_scenes(pictures, seed=3)):
            image = Image.fromarray(draw_scene(scene, np.random.default_rng(number)))
            add_picture(session, settings.folder, me, image, prompt=caption(scene, ATTRIBUTES), origin="upload")
    config = uvicorn.Config(create_app(settings, database), port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        database.close()


def person(address: str) -> httpx.Client:
    """Return a client that may change things, as the studio's pages may."""
    page = httpx.get(address).text
    token = page.split('name="csrf" content="')[1].split('"')[0]
    return httpx.Client(base_url=address, headers={"X-CSRF-Token": token, "Origin": address}, timeout=60)


def answers(address: str) -> int:
    """Return how many answers the studio has of the person."""
    count: int = httpx.get(f"{address}/api/questions").json()["progress"]["answers"]
    return count


def visit(browser: Browser, address: str, **context: Any) -> tuple[Page, list[str]]:
    """Open the studio; requests outside are blocked and listed, and so is whatever the browser complains about."""
    page = browser.new_context(base_url=address, accept_downloads=True, **context).new_page()
    wrong: list[str] = []

    def watch(route: Route) -> None:
        if urlsplit(route.request.url).netloc == urlsplit(address).netloc:
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    def complain(message: ConsoleMessage) -> None:
        if message.type == "error" and "/nowhere" not in message.location.get("url", ""):
            wrong.append(message.text)

    page.route("**/*", watch)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", complain)
    return page, wrong


def findings(page: Page) -> list[str]:
    """Return what axe finds wrong with a page, of any level."""
    found = Axe().run(page).response["violations"]
    return [f"{page.url}: {one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]
