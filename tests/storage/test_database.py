"""What both engines promise: migrations that may race, transactions that are whole, times that stay UTC."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from outwatch.domain.errors import ConfigInvalid, DatabaseUnavailable
from storage import database, tables
from storage.database import connect, insert_new, migrate, reading, storable, upsert, writing

AT = datetime(2026, 3, 1, 18, 30, 15, 123456, tzinfo=UTC)
MIGRATE = """
import sys
from storage.database import connect, migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(connect(sys.argv[1]))
"""


def upload(number: int = 0) -> dict[str, object]:
    """Return a row of ``uploads``."""
    return {"upload_id": f"u{number}", "declared": {"camera": "XT2"}, "received_at": AT}


def test_migrations_lead_to_the_tables_that_the_code_uses(engine: Engine) -> None:
    """The newest migration and ``storage/tables.py`` describe the same database, checks included."""
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "outwatch_version"})
        assert compare_metadata(context, tables.metadata) == []
        found = inspect(connection)
        for table in tables.metadata.sorted_tables:
            checks = {check["name"] for check in found.get_check_constraints(table.name)}
            expected = {c.name for c in table.constraints if str(c.name).startswith("ck_")}
            assert expected == checks


def test_migrate_again_changes_nothing(engine: Engine) -> None:
    """A database that is up to date stays as it is, with its rows."""
    with writing(engine) as connection:
        insert_new(connection, tables.uploads, [upload()])
    migrate(engine)
    with reading(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(tables.uploads)) == 1


def test_migrate_brings_an_old_database_up_with_its_rows(database_url: str) -> None:
    """The first revision's rows are there after migration to the newest."""
    engine = connect(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        insert_new(connection, tables.uploads, [upload()])
    assert not inspect(engine).has_table("alerts")

    migrate(engine)

    assert inspect(engine).has_table("alerts")
    with reading(engine) as connection:
        assert connection.scalar(select(tables.uploads.c.declared)) == {"camera": "XT2"}
    engine.dispose()


def test_processes_may_migrate_an_empty_database_at_once(
    database_url: str, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Of four processes that start at the same moment none fails, and the database is whole."""
    processes = [start_python(MIGRATE, database_url) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    engine = connect(database_url)
    assert set(tables.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_new_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    """The first to open a new file may be writing to it: the second waits instead of failing."""
    path = tmp_path / "new.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, holder.execute, ["ROLLBACK"])
    timer.start()
    engine = connect(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    timer.join()
    engine.dispose()
    holder.close()


def test_database_of_a_newer_outwatch_is_refused(engine: Engine) -> None:
    """An unknown revision is named, and what to do."""
    with writing(engine) as connection:
        connection.execute(text("UPDATE outwatch_version SET version_num = '9999'"))
    with pytest.raises(ConfigInvalid, match=r"9999.*install the newer"):
        migrate(engine)


def test_empty_database_is_said_to_lack_tables(database_url: str) -> None:
    """A database that was never migrated is a matter of configuration, not of another try."""
    engine = connect(database_url)
    with pytest.raises(ConfigInvalid, match="lacks tables"), reading(engine) as connection:
        connection.execute(select(tables.work))
    engine.dispose()


def test_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    """An error after a write takes the write back."""

    def cut_off() -> None:
        with writing(engine) as connection:
            insert_new(connection, tables.uploads, [upload()])
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cut_off()
    with reading(engine) as connection:
        assert connection.execute(select(tables.uploads)).all() == []


def test_foreign_keys_are_kept(engine: Engine) -> None:
    """An event cannot belong to an alert that is not there."""
    row = {"event_id": "e", "alert_id": "none", "position": 0}
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(tables.alert_events).values(row))


def test_states_are_checked(engine: Engine) -> None:
    """A state that is none cannot be stored."""
    row = {"step": "s", "subject": "x", "state": "lost", "claim_number": 0, "attempts": 0}
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(tables.work).values(**row, opened_at=AT, updated_at=AT))


def test_times_come_back_utc_to_the_microsecond(engine: Engine) -> None:
    """What went in comes out, aware and in UTC."""
    with writing(engine) as connection:
        insert_new(connection, tables.uploads, [upload()])
    with reading(engine) as connection:
        found = connection.scalar(select(tables.uploads.c.received_at))
    assert found == AT
    assert found.tzinfo is UTC


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.astimezone(timezone(timedelta(hours=5)))])
def test_times_not_in_utc_are_refused(engine: Engine, at: datetime) -> None:
    """A naive or local time does not get in, since one of the engines would drop its zone."""
    with pytest.raises(StatementError, match="must be UTC-aware"), writing(engine) as connection:
        insert_new(connection, tables.uploads, [{**upload(), "received_at": at}])


def test_insert_new_counts_only_new_rows(engine: Engine) -> None:
    """Rows whose key is taken stay as they are."""
    with writing(engine) as connection:
        assert insert_new(connection, tables.uploads, []) == 0
        assert insert_new(connection, tables.uploads, [upload(0)]) == 1
        assert insert_new(connection, tables.uploads, [{**upload(0), "declared": {}}, upload(1)]) == 1
        declared = select(tables.uploads.c.declared).where(tables.uploads.c.upload_id == "u0")
        assert connection.scalar(declared) == {"camera": "XT2"}


def test_upsert_replaces_by_key(engine: Engine) -> None:
    """The second row of a key takes the first one's place."""
    with writing(engine) as connection:
        for body in ({"v": 1}, {"v": 2}):
            upsert(connection, tables.clips, {"clip_id": "c", "started_at": AT, "body": body})
        assert connection.scalars(select(tables.clips.c.body)).all() == [{"v": 2}]


def test_writers_wait_for_each_other(engine: Engine) -> None:
    """Read-then-write by eight threads at once loses no update and fails none."""
    with writing(engine) as connection:
        row = {"step": "s", "subject": "x", "state": "open", "claim_number": 0, "attempts": 0}
        connection.execute(insert(tables.work).values(**row, opened_at=AT, updated_at=AT))

    def add() -> None:
        for _ in range(10):
            with writing(engine) as connection:
                database.serialise(connection, "counter")
                count = connection.scalar(select(tables.work.c.attempts))
                connection.execute(update(tables.work).values(attempts=count + 1))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.scalar(select(tables.work.c.attempts)) == 80


def test_readers_see_one_state_and_wait_for_no_writer(engine: Engine) -> None:
    """A read in progress neither blocks a write nor sees it."""
    with reading(engine) as reader:
        assert reader.execute(select(tables.uploads)).all() == []
        with writing(engine) as writer:
            insert_new(writer, tables.uploads, [upload()])
        assert reader.execute(select(tables.uploads)).all() == []


def test_odd_text_can_be_stored(engine: Engine) -> None:
    """NUL and half characters, which PostgreSQL refuses, arrive escaped; Urdu arrives as it is."""
    with writing(engine) as connection:
        insert_new(connection, tables.uploads, [{**upload(), "upload_id": storable("a\0b\udc80 پشاور")}])
        assert connection.scalar(select(tables.uploads.c.upload_id)) == "a\\0b\\udc80 پشاور"


def test_busy_sqlite_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waited in vain is told to try again."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    engine = connect(f"sqlite:///{tmp_path / 'outwatch.db'}")
    migrate(engine)
    with (
        writing(engine),
        pytest.raises(DatabaseUnavailable, match=r"outwatch\.db.*locked.*try again"),
        writing(engine),
    ):
        pass
    engine.dispose()


def test_unreachable_server_is_unavailable() -> None:
    """A refused connection can be tried again, and the message keeps the password."""
    engine = connect("postgresql://outwatch:hush@127.0.0.1:1/outwatch")
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1") as caught:
        migrate(engine)
    assert "hush" not in str(caught.value)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A text file named like a database is named as such."""
    path = tmp_path / "outwatch.db"
    path.write_text("not a database, but a note of some length" * 40)
    engine = connect(f"sqlite:///{path}")
    with pytest.raises(ConfigInvalid, match="no SQLite database"):
        migrate(engine)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://root:hush@db/x", "hush"])
def test_other_urls_are_refused_without_their_password(url: str) -> None:
    """What would not last, or is not supported, is refused by name."""
    with pytest.raises(ConfigInvalid, match="expected sqlite:///") as caught:
        connect(url)
    assert "hush" not in str(caught.value)
