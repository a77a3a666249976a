"""How Alembic runs our migrations: on the connection, and in the transaction, that ``migrate`` holds.

To write the next one: ``alembic.command.revision(config, autogenerate=True)`` with the same attribute.
"""

from __future__ import annotations

from alembic import context

from storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Airflow keeps its own alembic_version, perhaps in the same database.
    version_table="outwatch_version",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
