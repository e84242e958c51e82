"""Databases and studios to test with: SQLite in a folder, and a PostgreSQL server that is started where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pamela_rl.studio.database.opening import Database, open_database

BINARIES = (*os.environ.get("PATH", "").split(os.pathsep), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server of this test run alone, reached through a socket."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install '.[postgres]'")
    initdb, pg_ctl = (shutil.which(name, path=os.pathsep.join(BINARIES)) for name in ("initdb", "pg_ctl"))
    if not (initdb and pg_ctl):
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    place = Path(tmp_path_factory.mktemp("postgres"))
    as_other = []
    if os.geteuid() == 0:  # it refuses to run as root
        other = "postgres" if subprocess.run(["id", "postgres"], capture_output=True).returncode == 0 else "nobody"
        place = Path(
            subprocess.run(["mktemp", "-d", "/tmp/pgXXXXXX"], check=True, capture_output=True, text=True).stdout.strip()
        )
        shutil.chown(place, other)
        as_other = ["setpriv", f"--reuid={other}", "--clear-groups"]
    data, log = place / "data", place / "log"

    def call(*command: str | None) -> None:
        done = subprocess.run(
            [*as_other, *map(str, command)], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout

    call(initdb, "-D", str(data), "-U", "studio", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    call(
        pg_ctl,
        "-D",
        str(data),
        "-l",
        str(log),
        "-w",
        "-o",
        f"-c listen_addresses= -c max_connections=100 -k {place}",
        "start",
    )
    try:
        yield f"postgresql+psycopg://studio@/postgres?host={place}"
    finally:
        call(pg_ctl, "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def fresh_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases on the server, and returns their URLs."""
    server = create_engine(postgres, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make() -> str:
        made.append(f"studio_{os.getpid()}_{os.urandom(4).hex()}")
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        return postgres.replace("/postgres?", f"/{made[-1]}?")

    yield make
    with server.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of either kind, with its tables."""
    with ExitStack() as closing:
        url = request.getfixturevalue("fresh_database")() if request.param == "postgresql" else None
        opened = open_database(tmp_path / "studio", url)
        closing.callback(opened.close)
        opened.migrate()
        yield opened
