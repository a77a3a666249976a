"""A long clip is worked in parts: killed between them it goes on, and its events are those of a whole one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pytest

from outwatch.domain.types import Clip
from outwatch.pipeline import detection, landing, parts, runner, steps, wiring
from outwatch.pipeline.passes import Found, look_through
from outwatch.pipeline.registration import standing_events
from outwatch.settings import load_settings
from outwatch.simulate import SimulatedFlight
from storage import keys

PART_S = 9.0


@pytest.fixture(scope="module")
def keyframed(gathering_flight: SimulatedFlight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the flight's video with a keyframe a second, as cameras write it, beside its telemetry."""
    path = tmp_path_factory.mktemp("keyframed") / gathering_flight.video.name
    path.with_suffix(".SRT").write_bytes(gathering_flight.telemetry.read_bytes())
    with av.open(str(gathering_flight.video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=10, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 640, 512, "yuv420p"
        stream.gop_size, stream.time_base = 10, Fraction(1, 10)
        for number, frame in enumerate(source.decode(video=0)):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            frame.pict_type = av.video.frame.PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def opened(folder: Path, flight: SimulatedFlight, **settings: object) -> Iterator[wiring.Pipeline]:
    with wiring.open_pipeline(
        load_settings(home=folder, outposts=flight.outposts, detection=settings)
    ) as pipeline:
        yield pipeline


@pytest.fixture
def in_parts(tmp_path: Path, gathering_flight: SimulatedFlight) -> Iterator[wiring.Pipeline]:
    yield from opened(tmp_path / "parts", gathering_flight, part_s=PART_S)


@pytest.fixture
def whole(tmp_path: Path, gathering_flight: SimulatedFlight) -> Iterator[wiring.Pipeline]:
    yield from opened(tmp_path / "whole", gathering_flight, passes="one")


def registered(pipeline: wiring.Pipeline, video: Path) -> Clip:
    landing.land(pipeline, [video], declared={})
    (upload,) = steps.open_subjects(pipeline, "ingest_footage")
    steps.ingest_footage(pipeline, upload)
    (clip,) = pipeline.ledger.clips()
    return clip


def rows(pipeline: wiring.Pipeline, clip: Clip, table: str, *without: str) -> pa.Table:
    found = pipeline.lake.read(table, dt=keys.dt_of(clip.started_at), name=clip.id)
    return found.drop_columns(list(without)).replace_schema_metadata(None)


def test_three_parts_and_two_passes_give_what_one_pass_gives(
    in_parts: wiring.Pipeline, whole: wiring.Pipeline, keyframed: Path
) -> None:
    """The looks, the boxes, their places and the event are the same; no trace of the parts remains."""
    clip = registered(in_parts, keyframed)
    assert runner.run_open_work(in_parts).failures == []
    registered(whole, keyframed)
    assert runner.run_open_work(whole).failures == []
    subjects = [work.subject for work in in_parts.ledger.work(step="detect_parts")]
    assert sorted(subjects) == [f"{clip.id}+{number}of3" for number in (1, 2, 3)]
    for table, identity in (("coverage", ()), ("detections", ("track_id",))):
        assert rows(in_parts, clip, table, *identity).equals(rows(whole, clip, table, *identity))
    (event,), (expected,) = standing_events(in_parts, clip), standing_events(whole, clip)
    assert (event.id, event.count_low, event.count, event.count_high) == (
        expected.id,
        expected.count_low,
        expected.count,
        expected.count_high,
    )
    prefix = keys.parts_prefix(clip.id, dt=keys.dt_of(clip.started_at))
    assert list(in_parts.store.list(prefix)) == []


def test_work_killed_between_parts_goes_on_where_it_stood(
    in_parts: wiring.Pipeline, keyframed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that are done are not done again; the clip is put together by whoever ends the last one."""
    clip = registered(in_parts, keyframed)
    assert steps.detect_clips(in_parts, clip.id).counts == {"parts": 3}
    first, second, third = steps.open_subjects(in_parts, "detect_parts")
    steps.detect_parts(in_parts, third)
    with monkeypatch.context() as patch:
        patch.setattr(parts, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            steps.detect_parts(in_parts, first)
    assert steps.open_subjects(in_parts, "detect_parts") == [first, second]
    assert steps.open_subjects(in_parts, "detect_clips") == []
    steps.detect_parts(in_parts, second)
    assert steps.open_subjects(in_parts, "detect_clips") == []
    steps.detect_parts(in_parts, first)
    assert steps.open_subjects(in_parts, "detect_clips") == [clip.id]
    with monkeypatch.context() as patch:
        patch.setattr(detection, "look_through", interrupted)  # nothing is looked at again
        outcome = steps.detect_clips(in_parts, clip.id)
    assert outcome.counts["looks"] == rows(in_parts, clip, "coverage").num_rows
    assert steps.open_subjects(in_parts, "publish_events") == [clip.id]


def test_parts_of_another_setting_do_not_count(
    tmp_path: Path, gathering_flight: SimulatedFlight, keyframed: Path
) -> None:
    """What was found with other settings is looked for anew, in the parts that now are."""
    for pipeline in opened(tmp_path / "a", gathering_flight, part_s=PART_S):
        clip = registered(pipeline, keyframed)
        steps.detect_clips(pipeline, clip.id)
        for subject in steps.open_subjects(pipeline, "detect_parts")[:2]:
            steps.detect_parts(pipeline, subject)
    for pipeline in opened(tmp_path / "a", gathering_flight, part_s=14.0):
        (left,) = steps.open_subjects(pipeline, "detect_parts")
        assert steps.detect_parts(pipeline, left).counts == {"skipped": 1}
        assert steps.detect_clips(pipeline, clip.id).counts == {"parts": 2}


def test_setting_that_changes_between_parts_leaves_no_clip_behind(
    tmp_path: Path, clip: Callable[..., Path]
) -> None:
    """Whoever ends the last part has the clip put together, which looks again only at what is void."""
    home, video = tmp_path / "home", clip(grey=True)
    with wiring.open_pipeline(load_settings(home=home, detection={"part_s": 0.9})) as pipeline:
        landed = registered(pipeline, video)
        assert steps.detect_clips(pipeline, landed.id).counts == {"parts": 2}
        first, second = steps.open_subjects(pipeline, "detect_parts")
        steps.detect_parts(pipeline, first)
    surer = {"part_s": 0.9, "min_confidence": 0.3}
    with wiring.open_pipeline(load_settings(home=home, detection=surer)) as pipeline:
        steps.detect_parts(pipeline, second)
        assert steps.detect_clips(pipeline, landed.id).counts == {"parts": 1}
        assert steps.open_subjects(pipeline, "detect_parts") == [first]
        steps.detect_parts(pipeline, first)
        assert steps.detect_clips(pipeline, landed.id).counts["looks"] > 0
        assert steps.open_subjects(pipeline, "publish_events") == [landed.id]


def test_correction_that_comes_while_a_part_is_looked_at_makes_it_void(
    tmp_path: Path, clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part counts by what was known when it was looked at, not when it was written."""
    settings = load_settings(home=tmp_path / "home", detection={"part_s": 0.9})
    with wiring.open_pipeline(settings) as pipeline:
        landed = registered(pipeline, clip(grey=True))
        steps.detect_clips(pipeline, landed.id)
        first, second = steps.open_subjects(pipeline, "detect_parts")
        steps.detect_parts(pipeline, first)

        def corrected_meanwhile(*args: Any, **options: Any) -> Found:
            found = look_through(*args, **options)
            pipeline.corrections.record(landed.flight_id, None, who="operator")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(detection, "look_through", corrected_meanwhile)
            steps.detect_parts(pipeline, second)
        assert steps.detect_clips(pipeline, landed.id).counts == {"parts": 2}


def test_new_places_have_a_clip_looked_at_again(
    tmp_path: Path, gathering_flight: SimulatedFlight, keyframed: Path
) -> None:
    """In two passes a clip is looked at closely around the places that are watched: others need another."""
    for pipeline in opened(tmp_path / "a", gathering_flight):
        clip = registered(pipeline, keyframed)
        assert runner.run_open_work(pipeline).failures == []
        assert runner.reopen_events(pipeline) == 1
        assert steps.open_subjects(pipeline, "detect_clips") == []
        assert runner.run_open_work(pipeline).failures == []
    moved = json.loads(gathering_flight.outposts.read_text())
    moved["features"][0]["properties"]["watch_radius_m"] += 50
    places = tmp_path / "moved.geojson"
    places.write_text(json.dumps(moved))
    for pipeline in opened(tmp_path / "a", replace(gathering_flight, outposts=places)):
        assert runner.reopen_events(pipeline) == 1
        assert steps.open_subjects(pipeline, "detect_clips") == [clip.id]


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
