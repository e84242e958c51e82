"""The migrations make what the schema says, in SQLite and in PostgreSQL; sessions happen whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from pamela_rl.errors import ConfigError
from pamela_rl.studio.database.access import NotFound, owned
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Person, Picture, Table


def test_migrations_and_schema_are_the_same(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    with database.changing() as session:
        session.add(Person(name="a"))
    database.migrate()
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Person)) == 1


def test_what_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(NotFound), database.changing() as session:  # noqa: PT012  (what is done before it fails)
        session.add(Person(name="a"))
        session.flush()
        owned(session, Picture, "none", "a")
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Person)) == 0


def test_threads_that_count_together_count_right(database: Database) -> None:
    with database.changing() as session:
        session.add(Person(id="counted", name="a", settings={"n": 0}))

    def count() -> None:
        for _ in range(10):
            with database.changing() as session:
                person = session.get_one(Person, "counted", with_for_update=True)
                person.settings = {"n": person.settings["n"] + 1}

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as session:
        assert session.get_one(Person, "counted").settings == {"n": 50}


def test_a_row_of_another_is_like_none(database: Database) -> None:
    with database.changing() as session:
        session.add_all([Person(id="a", name="a"), Person(id="b", name="b")])
        session.flush()
        session.add(Picture(id="p", person_id="a", origin="upload", width=1, height=1, digest="d"))
    with database.session() as session:
        assert owned(session, Picture, "p", "a").id == "p"
        for picture, person in (("p", "b"), ("q", "b"), ("q", "a")):
            with pytest.raises(NotFound, match=r"^There is no such thing here\.$"):
                owned(session, Picture, picture, person)


def test_a_file_is_safe_from_a_power_cut(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with database.engine.connect() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                   ("journal_mode", "synchronous", "foreign_keys")}  # fmt: skip
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_database_that_is_not_there_is_a_sentence_without_the_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match=r"cannot be opened .* is it running") as error:
        open_database(tmp_path, "postgresql://me:geheim@127.0.0.1:9/nothing")
    assert "geheim" not in str(error.value)
