"""A studio in one file, taken while it runs, and back.

Rows are read in one transaction, all of one moment, and kept as JSON, so that what was in SQLite can be restored to
PostgreSQL and the other way round. A picture's file is there before its row, so files are gathered once before that moment, as
links, and what is new once after it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import MetaData, Table, func, select, text
from sqlalchemy.engine import Connection

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.storage import ensure_writable, writing
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Person, Picture
from pamela_rl.studio.database.schema import Table as Base
from pamela_rl.studio.pictures import picture_file

FORMAT = 1
FOLDERS = ("pictures", "jobs")
LEFT_OUT = {"workers", "sign_ins"}  # of processes and browsers that will not be there
TRIES = 5


def back_up(database: Database, folder: Path, file: Path) -> None:
    """Write everything a studio knows into one zip; it may be in use meanwhile.

    Args:
        database: Of the studio.
        folder: Of the studio.
        file: To write; it is there whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    with (
        writing("the backup", file),
        _gathered(folder) as (gathered, gather),
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        with _snapshot(database) as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            archive.writestr("backup.json", json.dumps({"format": FORMAT, "revision": revision}))
            for table in Base.metadata.sorted_tables:
                if table.name not in LEFT_OUT:
                    _write_rows(archive, connection, table)
        gather()
        for path in sorted(gathered.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(gathered).as_posix())
    os.replace(partial, file)


def restore(file: Path, database: Database, folder: Path) -> dict[str, int]:
    """Make a studio from a backup, in a folder and a database that hold none.

    Args:
        file: That ``back_up`` wrote.
        database: To fill; its tables are made.
        folder: To fill.

    Returns:
        How many rows each table has.

    Raises:
        ConfigError: There is a studio already.
        DataError: The file is no backup, or of a later version.
    """
    try:
        archive = zipfile.ZipFile(file)
        about = json.loads(archive.read("backup.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is no backup of a studio ({error}); give a file that --backup wrote.") from error
    if about.get("format") != FORMAT:
        raise DataError(f"{file} is a backup of a later version; update this program first.")
    with archive:
        database.migrate(about["revision"])
        with database.changing() as session:
            if session.scalar(select(func.count()).select_from(Person)):
                raise ConfigError(
                    f"{folder} or its database holds a studio already; choose another --folder or --database."
                )
            counts = _read_rows(archive, session.connection())
        for name in archive.namelist():
            if PurePosixPath(name).parts[0] in FOLDERS:
                _extract(archive, name, ensure_writable(folder))
    database.migrate()
    with database.changing() as session:  # a picture that was removed while the backup was taken
        for picture in session.scalars(select(Picture)).all():
            if not picture_file(folder, picture.person_id, picture.id).is_file():
                session.delete(picture)
                counts["pictures"] -= 1
    return counts


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """Give a connection that sees one moment."""
    engine = database.engine if database.file else database.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        yield connection


@contextmanager
def _gathered(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Give a folder with links to a studio's files, and what adds those that came since."""
    place = Path(tempfile.mkdtemp(prefix=".backup-", dir=folder))

    def gather() -> None:
        for name in FOLDERS:
            for _ in range(TRIES):  # until nothing moves meanwhile, as a checkpoint does that is published
                before = _files(folder / name)
                for path in before:
                    target = place / path.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):
                        target.unlink(missing_ok=True)
                        os.link(path, target)
                if _files(folder / name) == before:
                    break

    gather()
    try:
        yield place, gather
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _files(folder: Path) -> dict[Path, int]:
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                found[path] = path.stat().st_ino
    return found


def _write_rows(archive: zipfile.ZipFile, connection: Connection, table: Table) -> None:
    with archive.open(zipfile.ZipInfo(f"tables/{table.name}.jsonl"), "w", force_zip64=True) as stream:
        for row in connection.execution_options(yield_per=1000).execute(select(table)).mappings():
            stream.write(json.dumps(dict(row), default=_as_json).encode() + b"\n")


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else base64.b64encode(value).decode()


def _read_rows(archive: zipfile.ZipFile, connection: Connection) -> dict[str, int]:
    """Fill the tables as they were at the backup's revision."""
    tables, counts = MetaData(), {}
    tables.reflect(connection)
    for table in tables.sorted_tables:
        name = f"tables/{table.name}.jsonl"
        if name not in archive.namelist():
            continue
        with archive.open(name) as stream:
            rows = [_from_json(json.loads(line), table) for line in stream]
        for some in _parents_first(rows, table):
            connection.execute(table.insert(), some)
        counts[table.name] = len(rows)
        if (
            connection.dialect.name == "postgresql"
            and table.c.get("id") is not None
            and table.c.id.autoincrement is True
        ):
            newest = select(func.setval(func.pg_get_serial_sequence(table.name, "id"), func.max(table.c.id)))
            connection.execute(newest)
    return counts


def _from_json(row: dict[str, Any], table: Table) -> dict[str, Any]:
    for name, value in row.items():
        kind = table.c[name].type.python_type
        if kind is datetime and value is not None:
            row[name] = datetime.fromisoformat(value)
        elif kind is bytes and value is not None:
            row[name] = base64.b64decode(value)
    return row


def _parents_first(rows: list[dict[str, Any]], table: Table) -> Iterable[list[dict[str, Any]]]:
    """Yield rows in portions, those that others of the same table refer to before these."""
    to_itself = [key.parent.name for key in table.foreign_keys if key.column.table is table]
    done: set[Any] = set()
    while rows:
        ready = [row for row in rows if all(row[name] is None or row[name] in done for name in to_itself)]
        if not ready:
            raise DataError(f"{table.name} in the backup refer to rows that are not in it; it is broken.")
        yield ready
        done |= {row.get("id") for row in ready}
        rows = [row for row in rows if row.get("id") not in done] if to_itself else []


def _extract(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    target = Path(os.path.normpath(folder / name))
    if not target.is_relative_to(os.path.normpath(folder)):
        raise DataError(f"the backup holds {name!r}, which leads out of the folder; it is broken.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as stream:
        shutil.copyfileobj(source, stream)
