"""Run by Alembic: migrations go through the connection that the caller has opened."""

from __future__ import annotations

from alembic import context

from pamela_rl.studio.database.schema import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
