"""The SQL database: opening it, its transactions, and bringing it up to date.

Belongs here: what SQLite and PostgreSQL need to behave the same. Not here: tables
(``storage/tables.py``) and what they mean (``storage/ledger.py``, ``storage/alert_book.py``).

SQLite serves any number of processes on one machine; its file must not lie on a network file system,
where its write-ahead log does not work (https://www.sqlite.org/wal.html). PostgreSQL serves several.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from outwatch.domain.errors import ConfigInvalid, DatabaseUnavailable

BUSY_TIMEOUT_S = 30.0
"""How long a SQLite writer waits for another: our transactions take milliseconds, slow cards seconds."""
BUSY_PAUSE_S = 0.02
CONNECT_TIMEOUT_S = 10
"""How long PostgreSQL may take to answer, on weak links too."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_READ_ONLY = "outwatch_read_only"
_UNDEFINED_TABLE = "42P01"  # PostgreSQL's SQLSTATE


def connect(url: str) -> Engine:
    """Return an engine for ``sqlite:///<file>`` or ``postgresql+psycopg://...``; it connects when used.

    Raises:
        ConfigInvalid: the URL is of another kind.
    """
    try:
        place = make_url(url)
    except ArgumentError as error:
        # The text itself may hold a password.
        raise ConfigInvalid("database URL is none: expected sqlite:///<file> or postgresql://") from error
    if place.get_backend_name() == "postgresql":
        return create_engine(
            place.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    if place.drivername != "sqlite" or place.database in {None, "", ":memory:"}:
        raise ConfigInvalid(f"database {_shown(place)}: expected sqlite:///<file> or postgresql://")
    return _open_sqlite(place)


def _open_sqlite(place: URL) -> Engine:
    Path(str(place.database)).parent.mkdir(parents=True, exist_ok=True)
    # Without the driver's own transactions (isolation_level) ours begin where SQLAlchemy says.
    engine = create_engine(place, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: ConnectionPoolEntry) -> None:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail, not wait, when another wrote between.
        reads = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to the write-ahead log; for that alone SQLite does not wait while it is locked."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(BUSY_PAUSE_S)
        else:
            return


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction: all of it is kept, or on an error none.

    Raises:
        DatabaseUnavailable: the database did not answer, or was busy for too long.
        ConfigInvalid: it lacks our tables, or the file is no database.
    """
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one state of the database and waits for no writer.

    Raises:
        DatabaseUnavailable, ConfigInvalid: as ``writing``.
    """
    # SQLite's transactions are such by themselves.
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with _translated(engine), engine.connect() as connection:
        yield connection.execution_options(**{_READ_ONLY: True}, **options)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows, leave those whose key is taken as they are, and return how many were new."""
    if not rows:
        return 0
    statement = insert_into(connection, table).values([dict(row) for row in rows])
    # Drivers do not agree on the row count of an insert; returned rows can be counted.
    inserted = statement.on_conflict_do_nothing().returning(*table.primary_key)
    return len(connection.execute(inserted).all())


def upsert(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row, or replace the columns of the one that has its primary key."""
    key = [column.name for column in table.primary_key]
    changes = {name: value for name, value in row.items() if name not in key}
    statement = insert_into(connection, table).values(dict(row))
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changes))


def storable(text: str | None) -> str | None:
    """Return text that both engines take: NUL and what is not Unicode, as in odd file names, escaped."""
    return text and text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def serialise(connection: Connection, name: str) -> None:
    """Let one transaction at a time through for ``name``, until it ends.

    On SQLite there is only ever one writer; PostgreSQL takes an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def migrate(engine: Engine) -> None:
    """Bring a database, empty or of an older Outwatch, up to date; safe for several processes at once.

    Raises:
        ConfigInvalid: a newer Outwatch has already changed the database.
        DatabaseUnavailable: the database did not answer.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with writing(engine) as connection:
        serialise(connection, "outwatch/migrate")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigInvalid(
                f"database {_shown(engine.url)} is not one this Outwatch knows ({error}): install the newer "
                "Outwatch that wrote it"
            ) from error


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an insert that can say what to do about a taken key, in the words of the connection's engine."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _shown(place: URL) -> str:
    return place.render_as_string(hide_password=True)


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(f"database {_shown(engine.url)}: no free connection; try again") from error
    except DatabaseError as error:
        if problem := _lasting_problem(error):
            raise ConfigInvalid(f"database {_shown(engine.url)} {problem} ({error.orig})") from error
        if isinstance(error, OperationalError):
            raise DatabaseUnavailable(f"database {_shown(engine.url)}: {error.orig}; try again") from error
        raise
    except InterfaceError as error:
        raise DatabaseUnavailable(f"database {_shown(engine.url)}: {error.orig}; try again") from error


def _lasting_problem(error: DBAPIError) -> str | None:
    """Return what a person must do something about, or None where another try may help."""
    code = getattr(error.orig, "sqlite_errorname", None)
    if code in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return "is damaged or no SQLite database: restore the file from a backup"
    missing = code == "SQLITE_ERROR" and "no such table" in str(error.orig)
    if missing or getattr(error.orig, "sqlstate", None) == _UNDEFINED_TABLE:
        return "lacks tables of this Outwatch: bring it up to date (migrate)"
    return None
