"""The studio, started: its folder, its tables, its workers, and the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout

from pamela_rl.errors import ConfigError
from pamela_rl.storage import ensure_writable
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.people import admin_token, ensure_first
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.watch import log_to, logger
from pamela_rl.studio.web.app import create_app

WORKER = "pamela_rl.studio.jobs.worker"
LONGEST_PAUSE = 60.0  # seconds before a worker that keeps ending is started again


@contextmanager
def the_only_one(folder: Path) -> Iterator[None]:
    """Hold a studio's folder, in which one server writes at a time.

    Raises:
        ConfigError: Another one has it.
    """
    try:
        with FileLock(ensure_writable(folder) / "lock", timeout=0):
            yield
    except Timeout as error:
        raise ConfigError(
            f"the studio in {folder} is running already; stop it first, or choose another --folder."
        ) from error


def serve(settings: StudioSettings, *, new_admin_token: bool = False) -> None:
    """Serve until stopped.

    Args:
        settings: Of the studio.
        new_admin_token: Give the first admin another token, for one that was lost.

    Raises:
        ConfigError: The address is taken, the folder is in use, or the database cannot be opened.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to be stopped end the workers, too
    with the_only_one(settings.folder):
        settings.folder.chmod(0o700)  # other accounts of this machine have no business with what people rate
        log_to(settings.folder)
        for left in (
            *settings.folder.glob(".upload-*"),
            *settings.folder.glob(".reward-*"),
        ):  # by a server that was killed
            shutil.rmtree(left, ignore_errors=True)
        database = open_database(settings.folder, settings.database)
        database.migrate()
        with _listening(settings) as listening:
            app = create_app(settings, database)
            _greet(settings, database, listening.getsockname()[1], new_admin_token)
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5,
                proxy_headers=settings.https, forwarded_allow_ips="127.0.0.1",
            )  # fmt: skip
            with _workers(settings):
                uvicorn.Server(config).run(sockets=[listening])
        database.close()


def write_settings(settings: StudioSettings) -> Path:
    """Write the settings where workers read them with ``--config``; nobody else may, since a URL can hold a password."""
    values = asdict(settings)
    kept = {field.name: values[field.name] for field in fields(StudioSettings)}
    file = settings.folder / "settings.json"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(kept, stream, default=str, indent=1)
    return file


def _greet(settings: StudioSettings, database: Database, port: int, new_admin_token: bool) -> None:
    token = None
    with database.changing() as session:
        ensure_first(session)
        if not settings.loopback:
            token = admin_token(session, anew=new_admin_token)
    everywhere = settings.host in ("0.0.0.0", "::")
    name = settings.names[0] if settings.names else socket.gethostname() if everywhere else settings.host
    name = f"[{name}]" if ":" in name else name
    place = f"https://{name}/" if settings.https else f"http://{name}:{port}/"
    print(f"The studio is at {place}", flush=True)
    if token is not None:
        print(f"Sign in as its admin with this token, which is shown this once: {token}", flush=True)
    on_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(f"{kind}DISPLAY") for kind in ("", "WAYLAND_")
    )
    if settings.open_browser and on_screen:
        webbrowser.open(place)


@contextmanager
def _listening(settings: StudioSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=256)
    except OSError as error:
        raise ConfigError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); choose another --port, or 0."
        ) from error
    with listening:
        yield listening


@contextmanager
def _workers(settings: StudioSettings) -> Iterator[None]:
    """Keep worker processes running, each started again when it ends otherwise than well; end them at the block's end."""
    file, stopping = write_settings(settings), threading.Event()
    keepers = [threading.Thread(target=_keep, args=(file, stopping)) for _ in range(settings.workers)]
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        stopping.set()
        for keeper in keepers:
            keeper.join()


def _keep(file: Path, stopping: threading.Event) -> None:
    pause = 1.0
    while not stopping.is_set():
        with (file.parent / "worker.log").open("ab") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        while worker.poll() is None and not stopping.wait(0.5):
            pass
        if worker.poll() is None:
            worker.terminate()
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        elif worker.returncode == 0:
            return
        else:
            logger.error("worker ended", extra={"about": {"exit": worker.returncode, "again_in_seconds": pause}})
            stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
