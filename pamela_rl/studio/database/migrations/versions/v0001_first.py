"""The first tables.

Revision: 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
TABLES = (
    "audit_log", "people", "workers", "sign_ins", "jobs", "adapters", "pictures", "features", "questions", "answers",
    "blind_pairs",
)  # fmt: skip


def upgrade() -> None:
    """Make them."""
    _people()
    _work()
    _pictures()
    _answers()
    _blind_pairs()


def downgrade() -> None:
    """Remove them."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _of(table: str, name: str, *, on_delete: str = "CASCADE", nullable: bool = False, index: bool = False) -> Any:
    """Return a column with the id of a row of another table."""
    reference = sa.ForeignKey(f"{table}.id", ondelete=on_delete)
    return sa.Column(name, sa.String(), reference, nullable=nullable, index=index)


def _text(name: str, *, nullable: bool = False, key: bool = False) -> Any:
    return sa.Column(name, sa.String(), nullable=nullable, primary_key=key)


def _time(name: str, *, nullable: bool = False) -> Any:
    return sa.Column(name, sa.DateTime(), nullable=nullable)


def _whole(name: str) -> Any:
    return sa.Column(name, sa.Integer(), nullable=False)


def _yes_or_no(name: str) -> Any:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str) -> Any:
    return sa.Column(name, sa.JSON(), nullable=False)


def _people() -> None:
    op.create_table(
        "audit_log", sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _time("at"), _text("person"), _text("event"), _json("about"), _text("address"),
    )  # fmt: skip
    op.create_table(
        "people", _text("id", key=True), _text("name"), _text("token", nullable=True), _yes_or_no("is_admin"),
        _json("settings"), _time("created"),
    )  # fmt: skip
    op.create_table(
        "sign_ins", _text("id", key=True), _of("people", "person_id", index=True), _text("csrf"), _time("expires")
    )


def _work() -> None:
    op.create_table("workers", _text("id", key=True), _text("device"), _whole("process"), _time("seen"))
    op.create_table(
        "jobs", _text("id", key=True), _of("people", "person_id", index=True), _text("kind"), _text("state"),
        _text("wish", nullable=True), sa.Column("place", sa.Double(), nullable=False), _json("settings"), _json("progress"),
        _text("message"), _text("worker", nullable=True), _time("lease", nullable=True), _whole("attempts"),
        _time("created"), _time("started", nullable=True), _time("ended", nullable=True),
    )  # fmt: skip
    op.create_index("jobs_waiting", "jobs", ["state", "place"])
    op.create_table(
        "adapters", _text("id", key=True), _of("people", "person_id", index=True), _of("jobs", "job_id"),
        _of("adapters", "begun_from", on_delete="SET NULL", nullable=True), _whole("round"), _whole("num_answers"),
        sa.Column("strength", sa.Double(), nullable=False), _time("created"),
    )  # fmt: skip


def _pictures() -> None:
    op.create_table(
        "pictures", _text("id", key=True), _of("people", "person_id", index=True), _text("prompt"), _text("origin"),
        _of("adapters", "adapter_id", nullable=True), sa.Column("seed", sa.BigInteger(), nullable=True), _whole("width"),
        _whole("height"), _text("digest"), _text("excluded", nullable=True), _whole("asked"), _time("created"),
        sa.UniqueConstraint("person_id", "digest"),
    )  # fmt: skip
    op.create_index("pictures_to_ask", "pictures", ["person_id", "asked"])
    reference = sa.ForeignKey("pictures.id", ondelete="CASCADE")
    op.create_table(
        "features", sa.Column("picture_id", sa.String(), reference, primary_key=True), _text("encoder", key=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
    )  # fmt: skip


def _answers() -> None:
    op.create_table(
        "questions", _text("id", key=True), _of("people", "person_id"), _text("kind"), _json("picture_ids"),
        _yes_or_no("at_random"), _text("state"), _time("created"),
    )  # fmt: skip
    op.create_index("questions_open", "questions", ["person_id", "state"])
    op.create_table(
        "answers", sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        _of("people", "person_id", index=True), _whole("number"),
        _of("questions", "question_id", on_delete="SET NULL", nullable=True), _text("said"), _json("picture_ids"),
        sa.Column("value", sa.Double(), nullable=True), _text("reason", nullable=True), _yes_or_no("at_random"),
        _text("source"), _time("undone", nullable=True), _time("created"),
        sa.UniqueConstraint("person_id", "number"), sa.UniqueConstraint("question_id"),
    )  # fmt: skip


def _blind_pairs() -> None:
    op.create_table(
        "blind_pairs", _text("id", key=True), _of("people", "person_id", index=True), _of("jobs", "job_id"),
        _whole("number"), _text("prompt"), _of("pictures", "left_id"), _of("pictures", "right_id"), _text("left_arm"),
        _text("right_arm"), _text("chosen", nullable=True),
    )  # fmt: skip
    op.create_index("blind_pairs_of", "blind_pairs", ["job_id", "number"])
