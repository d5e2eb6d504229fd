"""How Alembic runs our migrations: on the connection, and in the transaction, that `farm.store.db` gives it."""

from alembic import context

from farm.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,  # SQLite's too: db.py begins its transactions itself
    render_as_batch=True,
)
context.run_migrations()
