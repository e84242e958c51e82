"""The studio, started: its folder, its tables, its workers, and the server."""

from __future__ import annotations

import socket
import webbrowser

import uvicorn

from pamela_rl.errors import ConfigError
from pamela_rl.studio.database.opening import open_database
from pamela_rl.studio.people import ensure_first
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.app import create_app


def serve(settings: StudioSettings) -> None:
    """Serve until stopped.

    Raises:
        ConfigError: The address is taken, or the database cannot be opened.
    """
    database = open_database(settings.folder, settings.database)
    database.migrate()
    with database.changing() as session:
        ensure_first(session)
    listening = _listen(settings)
    address = f"http://{settings.host}:{listening.getsockname()[1]}/"
    print(f"The studio is at {address}", flush=True)
    if settings.open_browser:
        webbrowser.open(address)
    config = uvicorn.Config(create_app(settings, database), log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: StudioSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); choose another --port, or 0."
        ) from error
