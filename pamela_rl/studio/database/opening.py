"""The studio's database: SQLite in its folder, or PostgreSQL by URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from pamela_rl.errors import ConfigError
from pamela_rl.storage import ensure_writable

FILE = "studio.sqlite"
MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE = 30  # seconds a process waits for another one's change
POOL: dict[str, Any] = {"pool_size": 20, "max_overflow": 30}  # connections; a server asks from 40 threads


class Database:
    """An engine, and sessions that either happen whole or not at all.

    Attributes:
        engine: SQLAlchemy's.
        file: Of SQLite; None is PostgreSQL.
    """

    def __init__(self, engine: Engine, file: Path | None):
        self.engine, self.file = engine, file
        self._changing = engine.execution_options(immediate=True)
        self._turn: Any = threading.Lock() if file else nullcontext()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Give a session that reads; all it reads is of one moment in SQLite."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """Give a session that reads and writes. At the block's end everything is on disk; if it raises, nothing is.

        SQLite has one writer at a time. It is taken at the beginning, so that what is read is what is changed, and threads
        of this process wait in turn instead of asking again and again.
        """
        with self._turn, Session(self._changing, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables up to date, or to another revision, or make them."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        with self._turn, self._changing.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(folder: Path, url: str | None = None) -> Database:
    """Open the database of a studio; its tables may still have to be made (:meth:`Database.migrate`).

    Args:
        folder: Of the studio; a SQLite file lies in it.
        url: Of a PostgreSQL database; None is the file.

    Raises:
        ConfigError: The folder cannot be written to, or the URL is none or leads nowhere.
    """
    if url is None:
        return Database(_sqlite(ensure_writable(folder) / FILE), folder / FILE)
    try:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_pre_ping=True, **POOL)
        with engine.connect():
            pass
    except ArgumentError as error:
        raise ConfigError("database is no URL; use postgresql+psycopg://user@host/name.") from error
    except OperationalError as error:
        where = make_url(url).render_as_string(hide_password=True)
        raise ConfigError(f"the database {where} cannot be opened ({_first_line(error)}); is it running?") from error
    return Database(engine, None)


def _sqlite(file: Path) -> Engine:
    """Open a file with a log that is written ahead.

    ``synchronous`` is FULL: with NORMAL, what is committed survives the end of the process, but the last of it not a power cut,
    and an answer is on disk before it is confirmed.
    """
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": PATIENCE, "check_same_thread": False}, **POOL)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where the driver guesses
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).splitlines()[0]
