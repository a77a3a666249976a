"""Sticks: written and read back at a station, taken in at headquarters, with every byte checked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from ingest.courier import usb
from outwatch.cli import app
from outwatch.domain.errors import NoRoom, PackageRefused, UploadInterrupted
from outwatch.pipeline import courier, incoming, wiring
from outwatch.pipeline.wiring import Pipeline
from outwatch.settings import IngestSettings, Settings, load_settings
from storage.tables import FileState

LOG = b"1\n00:00:00,000 --> 00:00:01,000\n[latitude: 33.5] [longitude: 71.4]\n"


@pytest.fixture
def station(tmp_path: Path) -> Settings:
    """Return a station's settings."""
    return load_settings(home=tmp_path / "station")


@pytest.fixture
def headquarters(tmp_path: Path) -> Iterator[Pipeline]:
    """Return headquarters' pipeline."""
    settings = load_settings(
        home=tmp_path / "headquarters",
        ingest=IngestSettings(min_free_bytes=0),
    )
    with wiring.open_pipeline(settings) as pipeline:
        yield pipeline


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Return a card with two clips, the telemetry of one, and a thumbnail."""
    media = tmp_path / "card" / "DCIM"
    media.mkdir(parents=True)
    (media / "DJI_1.MP4").write_bytes(b"first clip" * 1000)
    (media / "DJI_1.SRT").write_bytes(LOG)
    (media / "DJI_2.MP4").write_bytes(b"second clip" * 1000)
    (media / "DJI_2.THM").write_bytes(b"small")
    return tmp_path / "card"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """Return an empty stick."""
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def write(station: Settings, card: Path, stick: Path) -> Path:
    return courier.write_to_stick(station, card, declared={"operator": "Ali"}, stick=stick)[1]


def landed(pipeline: Pipeline) -> dict[str, bytes]:
    """Return what lies in ``landing/``, by name; manifests of clips apart."""
    keys = [info.key for info in pipeline.store.list("landing/")]
    return {key.rpartition("/")[2]: pipeline.store.get(key) for key in keys if not key.endswith(".json")}


def outcomes(pipeline: Pipeline) -> dict[str, tuple[FileState, str | None]]:
    files = [file for upload in pipeline.ledger.uploads() for file in upload.files]
    return {file.name: (file.outcome, file.reason) for file in files}


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_stick_brings_everything_and_is_not_written_to(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """Clips with their telemetry and declaration; what was left out has its row."""
    write(station, card, stick)
    before = snapshot(stick)
    (received,) = courier.receive(headquarters, stick)
    assert (received.counts["incoming_landed"], received.refused, received.reason) == (2, (), "")
    assert snapshot(stick) == before
    files = landed(headquarters)
    assert files["DJI_1.MP4"] == b"first clip" * 1000
    assert files["DJI_1.SRT"] == LOG
    assert set(files) == {"DJI_1.MP4", "DJI_1.SRT", "DJI_2.MP4"}
    assert outcomes(headquarters)["DCIM/DJI_2.THM"][0] is FileState.SET_ASIDE
    (first,) = (
        upload for upload in headquarters.ledger.uploads() if "DJI_1.MP4" in [f.name for f in upload.files]
    )
    assert first.declared == {"operator": "Ali"}


def test_the_same_stick_twice_is_nothing_new(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """Two known, none landed, and not a row more."""
    write(station, card, stick)
    list(courier.receive(headquarters, stick))
    rows = outcomes(headquarters)
    (again,) = courier.receive(headquarters, stick)
    assert (again.counts.get("incoming_landed", 0), again.counts["incoming_known"]) == (0, 2)
    assert outcomes(headquarters) == rows


def test_a_stick_completes_what_the_link_began(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """The station's next attempt over the link learns that all is there, and sends nothing again."""
    write(station, card, stick)
    (received,) = courier.receive(headquarters, stick)
    assert received.package_id is not None
    standing = incoming.arrival(incoming.open_spool(headquarters.settings), received.package_id)
    assert {file["state"] for file in standing["files"]} == {"landed"}
    assert incoming.arrivals(headquarters) == []


def test_one_changed_byte_is_refused_by_name_and_the_rest_taken(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """The file goes to quarantine with its reason, and has a row that says so."""
    folder = write(station, card, stick)
    clip = folder / "files" / "DCIM" / "DJI_2.MP4"
    data = bytearray(clip.read_bytes())
    data[777] ^= 1
    clip.write_bytes(data)
    (received,) = courier.receive(headquarters, stick)
    ((path, reason),) = received.refused
    assert path == "DCIM/DJI_2.MP4"
    assert reason.startswith("DCIM/DJI_2.MP4 came whole (11000 bytes) but changed")
    assert set(landed(headquarters)) == {"DJI_1.MP4", "DJI_1.SRT"}
    assert outcomes(headquarters)["DCIM/DJI_2.MP4"] == (FileState.REFUSED, reason)
    digest = hashlib.sha256(data).hexdigest()
    assert headquarters.store.get(f"quarantine/{digest}/DJI_2.MP4") == bytes(data)
    assert json.loads(headquarters.store.get(f"quarantine/{digest}/reason.json"))["why"] == reason


def test_telemetry_of_a_refused_clip_is_kept_and_told(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """It came whole; what is missing is its clip."""
    folder = write(station, card, stick)
    clip = folder / "files" / "DCIM" / "DJI_1.MP4"
    clip.write_bytes(clip.read_bytes()[:-1] + b"?")
    (_received,) = courier.receive(headquarters, stick)
    telemetry = folder / "files" / "DCIM" / "DJI_1.SRT"
    outcome, reason = outcomes(headquarters)["DCIM/DJI_1.SRT"]
    assert outcome is FileState.ABANDONED
    assert reason is not None
    assert reason.startswith("came whole, but the clip it belongs to did not")
    digest = hashlib.sha256(telemetry.read_bytes()).hexdigest()
    assert headquarters.store.get(f"quarantine/{digest}/DJI_1.SRT") == telemetry.read_bytes()


def test_a_stick_that_was_mended_brings_the_rest(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """Only what was refused before is new."""
    folder = write(station, card, stick)
    clip = folder / "files" / "DCIM" / "DJI_2.MP4"
    good = clip.read_bytes()
    clip.write_bytes(good[:-1])
    (first,) = courier.receive(headquarters, stick)
    assert "cut short, 10999 of 11000 bytes are there" in first.refused[0][1]
    clip.write_bytes(good)
    (second,) = courier.receive(headquarters, stick)
    assert (second.counts["incoming_landed"], second.counts["incoming_known"], second.refused) == (1, 1, ())


@pytest.mark.parametrize("what", ["file", "folder", "loop"])
def test_links_on_a_stick_lead_nowhere(
    what: str, station: Settings, card: Path, stick: Path, headquarters: Pipeline, tmp_path: Path
) -> None:
    """A stick is a stranger's: nothing outside of it is read."""
    folder = write(station, card, stick)
    media = folder / "files" / "DCIM"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(media, elsewhere)
    if what == "file":
        (media / "DJI_2.MP4").unlink()
        (media / "DJI_2.MP4").symlink_to(elsewhere / "DJI_2.MP4")
    elif what == "loop":
        (media / "DJI_2.MP4").unlink()
        (media / "DJI_2.MP4").symlink_to("DJI_2.MP4")
    else:
        shutil.rmtree(media)
        media.symlink_to(elsewhere)
    (received,) = courier.receive(headquarters, stick)
    assert (
        "DCIM/DJI_2.MP4",
        "DCIM/DJI_2.MP4 is not on the stick: copy the package again at the station",
    ) in [*received.refused]
    assert "DJI_2.MP4" not in landed(headquarters)


def test_a_manifest_that_was_changed_is_refused(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """Nothing of the package can be trusted then."""
    folder = write(station, card, stick)
    manifest = folder / "outwatch-package.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"Ali", b"Eve"))
    (received,) = courier.receive(headquarters, stick)
    assert "was changed after it was written" in received.reason
    assert landed(headquarters) == {}


def test_a_package_that_was_not_finished_is_told(
    station: Settings, card: Path, stick: Path, headquarters: Pipeline
) -> None:
    """The manifest is written last: without one, the station has to go on."""
    folder = write(station, card, stick)
    (folder / "outwatch-package.json").unlink()
    (received,) = courier.receive(headquarters, stick)
    assert received.reason == "it was not finished at the station: write it there again"


def test_a_write_that_was_broken_off_goes_on(station: Settings, card: Path, stick: Path) -> None:
    """What lies there is kept; what lies there wrongly is written anew."""
    folder = write(station, card, stick)
    media = folder / "files" / "DCIM"
    whole, half = media / "DJI_1.MP4", media / "DJI_2.MP4"
    half.rename(half.with_name("DJI_2.MP4.part"))
    half.with_name("DJI_2.MP4.part").write_bytes(b"rubbish from a torn write")
    (folder / "outwatch-package.json").unlink()
    before = whole.stat().st_mtime_ns
    assert write(station, card, stick) == folder
    assert whole.stat().st_mtime_ns == before
    assert half.read_bytes() == b"second clip" * 1000
    assert (folder / "outwatch-package.json").is_file()
    assert list(media.glob("*.part")) == []


def test_a_killed_writer_goes_on(card: Path, stick: Path, tmp_path: Path) -> None:
    """`outwatch upload --usb`, killed amid a file, finishes it when it is run again."""
    (card / "LONG.MP4").write_bytes(os.urandom(1 << 20) * 200)
    environment = {**os.environ, "OUTWATCH_HOME": str(tmp_path / "station")}
    command = [sys.executable, "-m", "outwatch.cli", "upload", str(card), "--usb", str(stick)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (parts := list(stick.rglob("LONG.MP4.part"))) or not parts[0].stat().st_size:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(stick.rglob("outwatch-package.json")) == []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "read back" in done.stdout
    (found,) = usb.find_packages(stick)
    assert found.package is not None
    (file,) = (file for file in found.package.files if file.path == "LONG.MP4")
    assert hashlib.sha256(found.path(file).read_bytes()).hexdigest() == file.sha256


def test_a_stick_that_is_too_small_is_told_before_a_byte_is_written(
    station: Settings, card: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how much is missing."""
    usage = shutil.disk_usage(stick)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NoRoom, match="take a larger one"):
        write(station, card, stick)
    assert list(stick.rglob("*.MP4*")) == []


def test_a_stick_that_keeps_something_else_is_found_out(
    station: Settings, card: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is read back from the stick itself."""
    monkeypatch.setattr(usb, "_read_back", lambda _: "0" * 64)
    with pytest.raises(PackageRefused, match="take another stick"):
        write(station, card, stick)


@pytest.fixture
def logging_of_its_own() -> Iterator[None]:
    """Take back where the command line sends logs: its stream ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_of_its_own")
def test_the_command_line_tells_programs_and_people(
    station: Settings, card: Path, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 where all was taken, 1 with the name of what was not, or where there is nothing."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "headquarters"))
    monkeypatch.setenv("OUTWATCH_INGEST__MIN_FREE_BYTES", "0")

    def outwatch(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    assert "holds no package: is it the right stick?" in outwatch("receive", stick)[2]
    folder = write(station, card, stick)
    code, shown, _ = outwatch("receive", stick, "--json")
    (row,) = json.loads(shown)
    assert (code, row["landed"], row["known"], row["refused"]) == (0, 2, 0, [])
    (folder / "files" / "DCIM" / "DJI_1.SRT").write_bytes(LOG[::-1])
    code, _, told = outwatch("receive", stick)
    assert (code, "refused DCIM/DJI_1.SRT" in told) == (1, True)
    assert "nothing is waiting to be sent" in outwatch("upload")[2]
    assert "where to?" in outwatch("upload", card)[2]
    assert "no such camera" in outwatch("upload", card, "--usb", stick, "--camera", "no such camera")[2]
    assert "set OUTWATCH_UPLOADS__TOKEN first" in outwatch("serve", "--host", "0.0.0.0")[2]  # noqa: S104


def test_a_stick_that_is_not_there_is_told(station: Settings, card: Path, tmp_path: Path) -> None:
    """An interruption: plug it in and run the command again."""
    with pytest.raises(UploadInterrupted, match="is the stick in place"):
        write(station, card, tmp_path / "nowhere")
