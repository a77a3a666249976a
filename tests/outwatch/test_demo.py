"""The demo keeps to its own: its own folder, its own Airflow, and lines that a person can run."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import SecretStr
from rich.console import Console

from outwatch import demo, embedded_airflow
from outwatch.domain.errors import ConfigInvalid, OutwatchError
from outwatch.domain.types import Event
from outwatch.pipeline import wiring
from outwatch.pipeline.receiver import Receiver
from outwatch.settings import load_settings
from storage import schemas
from storage.keys import dt_of

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def grounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no flight be rendered, so that the demo ends after its folder is ready."""

    def refuse(*_: object) -> None:
        raise OutwatchError("grounded")

    monkeypatch.setattr(demo, "simulate", refuse)


def run(folder: Path) -> None:
    """Run the demo up to its first flight."""
    with pytest.raises(OutwatchError, match="grounded"):
        demo.run_demo(folder, console=Console(file=io.StringIO()))


@pytest.mark.usefixtures("grounded")
@pytest.mark.parametrize("made", [True, False])
def test_a_new_or_empty_folder_is_marked(tmp_path: Path, made: bool) -> None:
    """The marker is what lets the next demo empty it."""
    folder = tmp_path / "a" / "demo"
    if made:
        folder.mkdir(parents=True)
    run(folder)
    assert (folder / demo.MARKER).is_file()


@pytest.mark.usefixtures("grounded")
def test_an_earlier_demo_is_emptied_and_nothing_beyond_it(tmp_path: Path) -> None:
    """A link to a folder elsewhere goes, the folder stays; the marker outlives even a broken run."""
    folder, elsewhere = tmp_path / "demo", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("kept")
    run(folder)
    (folder / "store" / "lake").mkdir(parents=True)
    (folder / "store" / "lake" / "old").write_text("old")
    (folder / "outwatch.db").write_text("old")
    (folder / "link").symlink_to(elsewhere)
    run(folder)
    assert [path.name for path in folder.iterdir()] == [demo.MARKER]
    assert (elsewhere / "kept.txt").read_text() == "kept"


@pytest.mark.usefixtures("grounded")
def test_a_folder_of_someone_else_is_refused_untouched(tmp_path: Path) -> None:
    """Nothing in it is removed, and nothing is written to it."""
    (tmp_path / "thesis.txt").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigInvalid, match="holds files that no demo wrote"):
        demo.run_demo(tmp_path, console=Console(file=io.StringIO()))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """With the path, and what to do."""
    (tmp_path / "file").write_text("data")
    with pytest.raises(ConfigInvalid, match=r"demo folder .*file.*choose another"):
        demo.run_demo(tmp_path / "file", console=Console(file=io.StringIO()))


@pytest.mark.parametrize("name", ["plain", "two o'clock", 'a "$HOME" `b`'])
def test_the_query_shown_runs_in_a_shell_whatever_the_folder(
    tmp_path: Path, gathering: Event, name: str
) -> None:
    """The last thing a person sees of the demo can be pasted as it stands."""
    settings = load_settings(home=tmp_path / name, database_url=SecretStr(""))
    with wiring.open_pipeline(settings) as pipeline:
        table = schemas.events_table([gathering])
        pipeline.lake.write("events", table, dt=dt_of(gathering.started_at), name="clip-1", metadata={})
    shown = io.StringIO()
    receiver = cast("Receiver", SimpleNamespace(received=[{"id": "alert-1"}]))
    demo._show(settings, receiver, Console(file=shown, width=120))
    (line,) = [line for line in shown.getvalue().splitlines() if "python -c" in line]
    command = line.strip().removeprefix("python")
    done = subprocess.run(
        ["sh", "-c", f'"$0"{command}', sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sample-post" in done.stdout


def test_another_airflow_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set for a production Airflow stays out; the rest of the environment is handed on."""
    foreign = {
        "AIRFLOW_HOME": "/srv/airflow",
        "AIRFLOW_CONFIG": "/srv/airflow/airflow.cfg",
        "AIRFLOW_CONN_LAKE": "s3://production",
        "AIRFLOW__CORE__DAGS_FOLDER": "/srv/dags",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "postgresql+asyncpg://production",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": "s3://production",
    }
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = embedded_airflow.environment(tmp_path)
    assert set(found.values()).isdisjoint(foreign.values())
    assert found["LANG"] == "C.UTF-8"
    assert found["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow/airflow.db"
    assert (Path(found["AIRFLOW__CORE__DAGS_FOLDER"]) / "ingest_footage.py").is_file()
