"""Evidence of a simulated gathering: whole, sealed, provably unchanged, and blurred for others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pictures
from sqlalchemy import text
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.domain.errors import ConfigInvalid, ObjectMissing
from outwatch.domain.types import Event
from outwatch.pipeline import evidence, export, landing, queries, runner, steps, verification, wiring
from outwatch.pipeline.verification import State
from outwatch.settings import load_settings
from outwatch.simulate import SimulatedFlight
from storage import keys, schemas
from storage.database import connect, writing
from storage.seals import sealed_bytes

MOST_EXCERPT_BYTES = 2_000_000


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, gathering_flight: SimulatedFlight) -> Path:
    """Return a home in which the flight's event is published, to be copied by each test."""
    home = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OUTWATCH_")]:
            patch.delenv(name)
        with wiring.open_pipeline(load_settings(home=home, outposts=gathering_flight.outposts)) as pipeline:
            landing.land(pipeline, [gathering_flight.video], declared={})
            assert runner.run_open_work(pipeline).failures == []
    return home


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Path:
    """Return a home of the test's own, in which the event stands."""
    return Path(shutil.copytree(published, tmp_path / "home"))


@pytest.fixture
def pipeline(
    home: Path, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch
) -> Iterator[wiring.Pipeline]:
    for name in [name for name in os.environ if name.startswith("OUTWATCH_")]:
        monkeypatch.delenv(name)
    with wiring.open_pipeline(load_settings(home=home, outposts=gathering_flight.outposts)) as built:
        yield built


@pytest.fixture
def event(pipeline: wiring.Pipeline) -> Event:
    """Return the gathering."""
    return next(found for found in queries.events(pipeline) if found.kind.value == "gathering_near_outpost")


def piece(event: Event, name: str) -> str:
    return next(key for key in event.evidence_keys if key.endswith(f"/{name}"))


def wrong(verdict: verification.Verdict) -> dict[str, State]:
    return {item.name: item.state for item in verdict.items if item.state is not State.OK}


def test_an_event_has_every_piece_and_its_record_names_them(pipeline: wiring.Pipeline, event: Event) -> None:
    """Still, excerpt of 8 s or less, map and record; every hash in the record is that of the object."""
    assert [key.rpartition("/")[2] for key in event.evidence_keys] == [*evidence.PIECES, keys.RECORD]
    assert evidence.missing_pieces([event]) == 0
    still, excerpt, drawn, record = (pipeline.store.get(key) for key in event.evidence_keys)
    assert Pictures.open(io.BytesIO(still)).format == "JPEG"
    assert Pictures.open(io.BytesIO(drawn)).size[0] == 800
    with av.open(io.BytesIO(excerpt)) as container:
        assert 6.0 <= float(container.duration / av.time_base) <= 10.0
    assert len(excerpt) < MOST_EXCERPT_BYTES
    said = json.loads(record)
    pieces = {keys.STILL: still, keys.EXCERPT: excerpt, keys.MAP: drawn}
    assert said["outputs"] == {name: hashlib.sha256(data).hexdigest() for name, data in pieces.items()}
    assert {key.split("/")[0] for key in said["inputs"]} == {"footage", "lake"}
    for key, digest in said["inputs"].items():
        assert hashlib.sha256(pipeline.store.get(key)).hexdigest() == digest


def test_what_was_not_touched_holds(pipeline: wiring.Pipeline, event: Event) -> None:
    """Every item is ok, found by the whole id or by its beginning."""
    verdict = verification.verify(pipeline, event.id[:8])
    assert wrong(verdict) == {}
    assert (verdict.holds, verdict.event_id) == (True, event.id)


def flip(pipeline: wiring.Pipeline, key: str) -> None:
    """Change one byte of an object."""
    data = bytearray(pipeline.store.get(key))
    data[len(data) // 2] ^= 1
    pipeline.store.put(key, bytes(data))


def test_changed_bytes_and_lost_objects_are_named(pipeline: wiring.Pipeline, event: Event) -> None:
    """One bit of any input or piece is one item changed, and nothing else; removed it is missing."""
    footage, lake = (
        f"footage/dt=2026-03-14/{event.clip_id}",
        "lake/{}/dt=2026-03-14/" + f"{event.clip_id}.parquet",
    )
    chosen = [piece(event, name) for name in evidence.PIECES]
    chosen += [f"{footage}/source.mp4", f"{footage}/telemetry.parquet"]
    chosen += [lake.format(table) for table in ("detections", "coverage")]
    for number, key in enumerate(chosen):
        flip(pipeline, key)
        before = dict.fromkeys(chosen[:number], State.MISSING)
        assert wrong(verification.verify(pipeline, event.id)) == {**before, key: State.CHANGED}
        pipeline.store.delete(key)
        assert wrong(verification.verify(pipeline, event.id)) == {**before, key: State.MISSING}


def test_a_record_cannot_be_changed_or_replaced(pipeline: wiring.Pipeline, event: Event) -> None:
    """Changed it breaks its seal, sealed anew it is not in the book; other bytes and a loss are seen too."""
    key = piece(event, keys.RECORD)
    data = pipeline.store.get(key)
    record = json.loads(data)
    pipeline.store.put(key, data.replace(b'"count": ', b'"count": 1'))
    assert wrong(verification.verify(pipeline, event.id)).items() >= {(key, State.CHANGED)}
    pipeline.store.put(key, sealed_bytes({**record, "rule_version": "0"}))
    assert wrong(verification.verify(pipeline, event.id)) == {"book of seals": State.CHANGED}
    pipeline.store.put(key, json.dumps(record).encode())
    assert wrong(verification.verify(pipeline, event.id)) == {key: State.CHANGED}
    for forged in (
        {"inputs": [1], "outputs": 2, "setup": []},
        {"inputs": {"../../x": ""}},
        {"event": float("nan")},
    ):
        pipeline.store.put(key, json.dumps({**record, **forged}).encode())
        assert wrong(verification.verify(pipeline, event.id))[key] is State.CHANGED
    pipeline.store.delete(key)
    assert wrong(verification.verify(pipeline, event.id)) == {key: State.MISSING}


def test_a_changed_row_of_the_lake_is_named(pipeline: wiring.Pipeline, event: Event) -> None:
    """An event whose count or pieces somebody changed in the table no longer says what was sealed."""
    dt = keys.dt_of(event.started_at)
    table = pipeline.lake.read("events", dt=dt, name=str(event.clip_id))
    others = tuple(key.replace(event.id, "0" * 8) for key in event.evidence_keys)
    for name, value in (("count", 99), ("evidence_keys", others), ("evidence_keys", event.evidence_keys[1:])):
        told = [
            replace(found, **{name: value}) if found.id == event.id else found
            for found in schemas.events_from(table)
        ]
        pipeline.lake.write("events", schemas.events_table(told), dt=dt, name=str(event.clip_id), metadata={})
        verdict = verification.verify(pipeline, event.id)
        assert [(item.name, item.words) for item in verdict.items if item.state is not State.OK] == [
            ("event's row", f"not as sealed: {name}")
        ]


def test_what_later_software_knows_besides_is_no_change(
    pipeline: wiring.Pipeline, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade that tells more of an event does not accuse anybody."""
    told = verification.statement(event) | {"height_m": 3.0}
    monkeypatch.setattr(verification, "statement", lambda _: told)
    assert wrong(verification.verify(pipeline, event.id)) == {}


def test_open_work_is_told_of(pipeline: wiring.Pipeline, event: Event) -> None:
    """Between a step's objects and its end things may not match: verify says which step, and what to do."""
    pipeline.ledger.reopen("publish_events", str(event.clip_id))
    (item,) = [item for item in verification.verify(pipeline, event.id).items if item.state is not State.OK]
    assert (item.name, item.state) == ("step publish_events", State.DIFFERS)
    assert "`outwatch run`" in item.words


def test_a_changed_book_is_named(pipeline: wiring.Pipeline, event: Event, home: Path) -> None:
    """Who forges record and book alike must forge the chain as well."""
    with writing(connect(f"sqlite:///{home / 'outwatch.db'}")) as connection:
        connection.execute(text("UPDATE evidence_seals SET at = '2025-01-01 00:00:00'"))
    assert wrong(verification.verify(pipeline, event.id)) == {"chain of the book": State.CHANGED}


def test_a_vanished_event_speaks_through_its_evidence(pipeline: wiring.Pipeline, event: Event) -> None:
    """Where row and then record were removed, they are missed, also by the beginning of the event's id."""
    pipeline.store.delete(keys.lake("events", dt=keys.dt_of(event.started_at), name=str(event.clip_id)))
    assert wrong(verification.verify(pipeline, event.id[:8])) == {"event": State.MISSING}
    for key in event.evidence_keys:
        pipeline.store.delete(key)
    verdict = verification.verify(pipeline, event.id[:8])
    assert wrong(verdict) == {"event": State.MISSING, keys.RECORD: State.MISSING}
    assert "last sealed 20" in verdict.items[0].words
    with pytest.raises(ObjectMissing):
        verification.verify(pipeline, "00000000")


def test_other_settings_are_no_forgery(home: Path, event: Event, gathering_flight: SimulatedFlight) -> None:
    """A threshold that was changed since differs, and the evidence holds."""
    changed = load_settings(home=home, outposts=gathering_flight.outposts, rules={"min_p_inside": 0.4})
    with wiring.open_pipeline(changed) as pipeline:
        verdict = verification.verify(pipeline, event.id)
    assert wrong(verdict) == {"setting rules": State.DIFFERS}
    assert verdict.holds
    (words,) = [item.words for item in verdict.items if item.state is State.DIFFERS]
    assert words.startswith("then and today: min_p_inside 0.3 and 0.4; ")


def test_second_run_is_sealed_once(pipeline: wiring.Pipeline, event: Event) -> None:
    """The same work again writes the same bytes and adds no line to the book."""
    before = {key: pipeline.store.get(key) for key in event.evidence_keys}
    lines = pipeline.seals.check()
    pipeline.ledger.reopen("publish_events", str(event.clip_id))
    steps.publish_events(pipeline, str(event.clip_id))
    assert {key: pipeline.store.get(key) for key in event.evidence_keys} == before
    assert pipeline.seals.check() == lines


def test_a_piece_that_fails_does_not_lose_the_event(
    pipeline: wiring.Pipeline, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a map the event stands with a note, the old map is removed, and the rest is sealed."""
    old = piece(event, keys.MAP)

    def broken(*_: object, **__: object) -> bytes:
        raise ValueError("no ink")

    monkeypatch.setattr(evidence, "draw_map", broken)
    pipeline.ledger.reopen("publish_events", str(event.clip_id))
    steps.publish_events(pipeline, str(event.clip_id))
    again = next(found for found in queries.events(pipeline) if found.id == event.id)
    assert again.notes[-1] == "no map: no ink"
    assert old not in {info.key for info in pipeline.store.list("evidence/")}
    assert verification.verify(pipeline, event.id).holds


def test_blurred_evidence_hides_bystanders_and_leaves_the_originals(
    pipeline: wiring.Pipeline, event: Event, tmp_path: Path
) -> None:
    """Bystanders are smeared in still and excerpt, the group is not; the record says what was hidden."""
    before = {info.key: pipeline.store.get(info.key) for info in pipeline.store.list("evidence/")}
    exported = export.export_evidence(pipeline, event.id, folder=tmp_path / "out", blur=True)
    assert {path.name for path in exported.files} == {*evidence.PIECES, keys.RECORD, export.EXPORT_RECORD}
    said = json.loads((tmp_path / "out" / export.EXPORT_RECORD).read_bytes())
    assert said["hidden"]["in"] == [keys.STILL, keys.EXCERPT]
    assert sum(said["hidden"]["in_still_by_label"].values()) >= 1
    assert said["hidden"]["most_boxes_in_one_picture"] >= 1
    assert "a person must look" in said["hidden"]["warning"]
    for name, digest in said["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    sharp, blurred = (
        np.asarray(Pictures.open(io.BytesIO(data)), int)
        for data in (before[piece(event, keys.STILL)], (tmp_path / "out" / keys.STILL).read_bytes())
    )
    changed = (abs(sharp - blurred) > 24).any(axis=-1)
    assert 0.0002 < changed.mean() < 0.05
    assert {info.key: pipeline.store.get(info.key) for info in pipeline.store.list("evidence/")} == before


def test_an_export_says_what_is_not_as_sealed_and_leaves_nothing_older(
    pipeline: wiring.Pipeline, event: Event, tmp_path: Path
) -> None:
    """What could not be hidden is not left from before; a changed source is named; a folder has one event."""
    folder = tmp_path / "out"
    assert export.export_evidence(pipeline, event.id, folder=folder, blur=False).doubts == {}
    source = f"footage/dt=2026-03-14/{event.clip_id}/source.mp4"
    pipeline.store.put(source, b"no video")
    exported = export.export_evidence(pipeline, event.id, folder=folder, blur=True)
    assert set(exported.left_out) == {keys.STILL, keys.EXCERPT}
    assert {path.name for path in folder.iterdir()} == {keys.MAP, keys.RECORD, export.EXPORT_RECORD}
    assert set(exported.doubts) == {source}
    (folder / export.EXPORT_RECORD).write_bytes(b'{"event_id": "another"}')
    with pytest.raises(ConfigInvalid, match="another event"):
        export.export_evidence(pipeline, event.id, folder=folder, blur=True)


def test_commands_say_so_by_their_exit_code(pipeline: wiring.Pipeline, event: Event, tmp_path: Path) -> None:
    """verify leaves with 0, or 1 and the name of the changed piece; evidence writes files; no id gives 1."""
    environment = {
        "OUTWATCH_HOME": str(pipeline.settings.home),
        "OUTWATCH_OUTPOSTS": str(pipeline.settings.outposts),
    }
    run = CliRunner()
    assert run.invoke(app, ["verify", event.id], env=environment).exit_code == 0
    written = run.invoke(app, ["evidence", event.id, "--out", str(tmp_path / "out")], env=environment)
    assert (written.exit_code, (tmp_path / "out" / keys.STILL).exists()) == (0, True)
    flip(pipeline, piece(event, keys.STILL))
    said = run.invoke(app, ["verify", event.id, "--json"], env=environment)
    assert said.exit_code == 1
    assert [item["name"] for item in json.loads(said.stdout)["items"] if item["state"] == "changed"] == [
        piece(event, keys.STILL)
    ]
    assert run.invoke(app, ["verify", "00000000"], env=environment).exit_code == 1
