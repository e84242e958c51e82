"""The studio's pages: their frame and words, rendered here; what changes is filled in by ``static/studio.js``."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pamela_rl.studio.web.strings import say, tables

STATIC = Path(__file__).with_name("static")
TEMPLATES = Path(__file__).with_name("templates")
PLACES = {  # pages by their address
    "/": "start",
    "/rate": "rate",
    "/taste": "taste",
    "/train": "train",
    "/compare": "compare",
    "/draw": "draw",
    "/library": "library",
    "/settings": "settings",
}
_SCRIPT_WORDS = ("common", "nav", "job")  # tables of strings that every page's script uses, beside its own

router = APIRouter(default_response_class=HTMLResponse)
public = APIRouter(default_response_class=HTMLResponse)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = {file.name: file.read_bytes() for file in sorted(STATIC.iterdir()) if file.is_file()}
    versions = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in files.items()}
    environment.globals.update(say=say, static=lambda name: f"/static/{name}?v={versions[name]}")
    return environment


def page(request: Request, name: str, status: int = 200, **values: object) -> HTMLResponse:
    """Render a page.

    Args:
        request: Of a person (``request.state.person``, ``csrf``, ``people``), or of nobody yet.
        name: Of its template and its table of strings.
        status: Of the answer.
        values: What its template needs beside that.
    """
    words = {table: tables()[table] for table in (*_SCRIPT_WORDS, name)}
    text = (
        _environment()
        .get_template(f"{name}.html")
        .render(
            page=name,
            person=request.state.person,
            people=request.state.people,
            csrf=request.state.csrf,
            settings=request.app.state.settings,
            words=words,
            **values,
        )
    )
    return HTMLResponse(text, status, {"Cache-Control": "no-store"})


def error_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """Render what could not be shown, for a browser that asked for a page."""
    return page(request, "error", status, sentence=sentence)


@public.get("/sign-in")
def sign_in(request: Request) -> HTMLResponse:
    """Show where one signs in."""
    return page(request, "sign_in")


@router.get("/people")
def people(request: Request) -> HTMLResponse:
    """Show who may come; for those who invite."""
    if not request.state.person.is_admin:
        raise HTTPException(404)
    return page(request, "people")


def _shown(request: Request) -> HTMLResponse:
    return page(request, PLACES[request.url.path])


for _place in PLACES:
    router.add_api_route(_place, _shown, methods=["GET"], name=PLACES[_place])
