"""The web application: its routes, who may ask, what is refused, and how errors look."""

from __future__ import annotations

import importlib
import os
import pkgutil
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.access import NotFound
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web import pages, routes
from pamela_rl.studio.web.guard import Guard
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import NotSignedIn, Refused, Studio, current_person, people_here

STATUS = {NotFound: 404, NotSignedIn: 401, Refused: 403}


def create_app(settings: StudioSettings, database: Database) -> FastAPI:
    """Return the application; the database's tables must be there.

    Every module in ``web/routes`` gives a ``router``, whose requests need a person, and may give a ``public`` one, whose
    requests do not; what its ``start`` and ``stop`` do, if it has them, is done with the server.
    """
    studio = Studio(settings, database, _secret(settings.folder))
    parts = _parts()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        for part in parts:
            if hasattr(part, "stop"):
                part.stop(studio)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.state.studio, app.state.settings = studio, settings
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    for part in parts:
        if hasattr(part, "start"):
            part.start(studio)
        if hasattr(part, "public"):
            app.include_router(part.public)
        app.include_router(part.router, dependencies=[Depends(current_person)])
    app.include_router(pages.public)
    app.include_router(pages.router, dependencies=[Depends(current_person), Depends(people_here)])
    app.add_exception_handler(PamelaError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_middleware(Guard, settings=settings, rates=studio.rates, meter=studio.meter)
    return app


def _secret(folder: Path) -> bytes:
    """Return what CSRF tokens are made from, the same after a restart, so that open pages go on."""
    file = folder / "secret"
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
    return file.read_bytes()


def _parts() -> list[ModuleType]:
    names = [f"routes.{found.name}" for found in pkgutil.iter_modules(routes.__path__)]
    return [importlib.import_module(f"pamela_rl.studio.web.{name}") for name in names]


def _refuse(request: Request, error: Exception) -> Response:
    """Answer what cannot be done with a sentence; a page that needs a person leads to where one signs in."""
    headers = None
    if isinstance(error, PamelaError):
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
        sentence = " ".join(str(error).split())
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        sentence = str(error.detail)
    else:
        status, sentence = 400, say("errors.unreadable")
    sentence = say("errors.not_found") if status == 404 else sentence  # whatever is not there, or another's
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if status == 401 and wants_page:
        return RedirectResponse("/sign-in", 303)
    if wants_page and not request.url.path.startswith("/api/"):
        return pages.error_page(request, status, sentence)
    return JSONResponse({"error": sentence}, status, headers)
