"""The sensors' steps on the embedded engines: batches to windows to events to alerts, whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from outwatch.cli import app
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedBatch, FeedItem
from outwatch.domain.types import Event, Observation, Outcome, Priority
from outwatch.pipeline import queries, runner, sensor_events, sensors, watch, wiring
from outwatch.pipeline.watch import watch_sensors
from outwatch.settings import load_settings
from storage import schemas
from storage.tables import WorkState

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
WINDOW, NEXT = "20260314T1640Z", "20260314T1650Z"
FEED = {"type": "file", "name": "gate", "folder": "/nowhere", "mapping": {"sensor": "a", "kind": "motion"}}


class FakeFeed:
    """A feed that gives what it was given, in batches of two; what is not acknowledged comes again."""

    name = "gate"

    def __init__(self, items: Sequence[FeedItem]) -> None:
        self.items = list(items)
        self.acknowledged = 0
        self.away = False
        self.behind = False

    def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
        """Yield all there is, as a broker does that was told of nothing."""
        del cursor, for_s
        for start in range(0, len(self.items), 2):
            part = tuple(self.items[start : start + 2])
            yield FeedBatch(part, {"n": start}, partial(self._acknowledge, len(part)), self.behind)
        if self.away:
            raise FeedTimeout("the broker went away")

    def _acknowledge(self, count: int) -> None:
        self.acknowledged += count


def trip(after_s: float, sensor: str = "pir-1", value: float = 1.0, source_id: str | None = None) -> FeedItem:
    at = START + timedelta(seconds=after_s)
    observation = Observation(sensor, "motion", value, at, source_id=source_id)
    return FeedItem("{}", at + timedelta(seconds=1), observation)


def feature(lon_deg: float, **properties: object) -> dict[str, object]:
    point = {"type": "Point", "coordinates": [lon_deg, 33.586]}
    return {"type": "Feature", "geometry": point, "properties": properties}


def collection(path: Path, *features: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wiring.Pipeline]:
    """Give a pipeline with two posts, two motion sensors near the first and one near neither."""
    post = {"kind": "police_outpost", "name_ur": "چوکی", "watch_radius_m": 400, "control_room": "room"}
    places = collection(
        tmp_path / "posts.geojson",
        feature(71.445, id="north", name="North Post", **post),
        feature(72.0, id="south", name="South Post", **post),
    )
    sensor = {"name": "S", "kinds": "motion", "trip_from": 1, "minimum": 0, "maximum": 9}
    registry = collection(
        tmp_path / "sensors.geojson",
        feature(71.445, id="pir-1", expected_interval_s=60, **sensor),
        feature(71.446, id="pir-2", **sensor),
        feature(71.6, id="far", **sensor),
    )
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OUTWATCH_OUTPOSTS", str(places))
    monkeypatch.setenv("OUTWATCH_SENSORS__REGISTRY", str(registry))
    monkeypatch.setenv("OUTWATCH_SENSORS__FEEDS", json.dumps([FEED]))
    with wiring.open_pipeline(load_settings()) as pipeline:
        pipeline.now = lambda: START + timedelta(minutes=30)
        yield pipeline


Take = Callable[..., Outcome]


@pytest.fixture
def take(station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Give a function that collects items, runs what is open, and returns the collecting's outcome."""

    def act(*items: FeedItem) -> Outcome:
        feed = FakeFeed(items)
        monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
        outcome = sensors.collect(station, "gate", for_s=1)
        assert len(items) == feed.acknowledged
        assert runner.run_sensor_work(station).failures == []
        return outcome

    return act


def spans(found: Sequence[Event]) -> list[tuple[float, float]]:
    """Return start and end of events in seconds."""
    return [
        ((event.started_at - START).total_seconds(), (event.ended_at - START).total_seconds())
        for event in found
    ]


def test_readings_go_to_their_windows_by_capture_and_refusals_by_receipt(
    station: wiring.Pipeline, take: Take
) -> None:
    """Each lake file holds its window's rows in order of time."""
    outcome = take(trip(650), trip(5), trip(3, value=0), trip(4, value=77), trip(1, sensor="nobody"))
    assert {"batches": 3, "accepted": 3, "refused": 2, "again": 0} == dict(outcome.counts)
    dt = START.date()
    first = schemas.readings_from(station.lake.read("readings", dt=dt, name=WINDOW))
    assert [3, 5] == [(item.at - START).total_seconds() for item in first]
    assert 1 == station.lake.read("readings", dt=dt, name=NEXT).num_rows
    refused = schemas.refused_readings_from(station.lake.read("refused_readings", dt=dt, name=WINDOW))
    assert ["unknown_sensor", "out_of_range"] == [item.reason for item in refused]
    assert station.inbox.waiting() == 0


def test_two_sensors_near_one_post_are_one_event_with_evidence(station: wiring.Pipeline, take: Take) -> None:
    """The far sensor gives none; the record names readings and window files with their hashes."""
    take(trip(10), trip(40, sensor="pir-2"), trip(20, sensor="far"))
    (event,) = queries.events(station)
    assert ("north", 2, ("pir-1", "pir-2")) == (event.outpost_id, event.count, event.sensor_ids)
    record = json.loads(station.store.get(event.evidence_keys[0]))
    (key, digest) = next(iter(record["inputs"].items()))
    assert digest == hashlib.sha256(station.store.get(key)).hexdigest()
    assert ["pir-1", "pir-2"] == [item["sensor_id"] for item in record["readings"]]
    (alert,) = queries.alerts(station)
    assert (Priority.P2, "2 sensors tripped near North Post (police outpost): pir-1, pir-2.") == (
        alert.priority,
        alert.message_en.splitlines()[0],
    )


def test_a_happening_over_several_windows_is_one_event_of_the_first(
    station: wiring.Pipeline, take: Take
) -> None:
    """It begins in one window and goes on in the next, in whichever order they come."""
    take(*(trip(500 + 60 * number) for number in range(4)))
    (event,) = queries.events(station)
    assert ([(500, 680)], WINDOW) == (spans([event]), event.window)
    record = json.loads(station.store.get(event.evidence_keys[0]))
    assert 2 == len(record["inputs"])


def test_late_readings_join_what_was_two_events(station: wiring.Pipeline, take: Take) -> None:
    """Two events in two windows become one when the trip between them comes; nothing of the second stays."""
    take(trip(500), trip(720))
    assert [(500, 500), (720, 720)] == spans(queries.events(station))
    take(trip(610))
    (event,) = queries.events(station)
    assert [(500, 720)] == spans([event])
    standing = {info.key for info in station.store.list("evidence/")}
    assert set(event.evidence_keys) == standing
    assert 1 == len(queries.alerts(station)), "the cool-down holds"


def test_a_late_start_moves_the_event_to_its_window(station: wiring.Pipeline, take: Take) -> None:
    """A trip before the first known one makes the event begin there."""
    take(trip(610))
    take(trip(550))
    (event,) = queries.events(station)
    assert ([(550, 610)], WINDOW) == (spans([event]), event.window)


def test_evidence_names_the_window_file_as_it_stands(station: wiring.Pipeline, take: Take) -> None:
    """A reading that is no trip changes the file, and the record with it."""
    take(trip(10))
    take(trip(20, value=0))
    (event,) = queries.events(station)
    for key, digest in json.loads(station.store.get(event.evidence_keys[0]))["inputs"].items():
        assert digest == hashlib.sha256(station.store.get(key)).hexdigest()


def test_a_second_sensor_that_agrees_is_told_again_and_more_urgently(
    station: wiring.Pipeline, take: Take
) -> None:
    """One sensor raises a P3; the second, seconds later, a P2; the third nothing more."""
    station.now = lambda: START + timedelta(minutes=5)
    take(trip(10))
    assert [Priority.P3] == [alert.priority for alert in queries.alerts(station)]
    take(trip(20, sensor="pir-2"))
    take(trip(30))
    (event,) = queries.events(station)
    told = {alert.priority: alert.event_ids for alert in queries.alerts(station)}
    assert {Priority.P3: (), Priority.P2: (event.id,)} == told


def test_a_killed_writing_is_done_again_without_a_trace(
    station: wiring.Pipeline, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file was written and the ledger not, the rows are no duplicates and their event comes."""
    monkeypatch.setattr(wiring, "build_feed", lambda _: FakeFeed([trip(10), trip(20)]))
    sensors.collect(station, "gate", for_s=1)
    with monkeypatch.context() as broken:
        broken.setattr(station.inbox, "clear", lambda *_args, **_kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sensors.write_readings(station, WINDOW)
    assert 2 == station.lake.read("readings", dt=START.date(), name=WINDOW).num_rows
    assert runner.run_sensor_work(station).failures == []
    assert 2 == station.lake.read("readings", dt=START.date(), name=WINDOW).num_rows
    assert 0 == station.lake.scan("refused_readings").num_rows
    assert (2, 0) == (station.inbox.sensors()["pir-1"].accepted, station.inbox.waiting())
    assert [(10, 20)] == spans(queries.events(station))


def test_what_comes_again_after_its_window_was_written_stands_once(
    station: wiring.Pipeline, take: Take
) -> None:
    """With an id of the feed's it is a re-delivery; without, a duplicate that is kept apart."""
    later = START + timedelta(minutes=20)
    with_id, without = trip(10, source_id="m-1"), trip(20)
    take(with_id, without)
    take(*(FeedItem("{again}", later, item.observation) for item in (with_id, without)))
    assert 2 == station.lake.scan("readings").num_rows
    (refused,) = schemas.refused_readings_from(station.lake.scan("refused_readings"))
    assert ("duplicate", "{again}") == (refused.reason, refused.payload)
    assert (2, 1) == (
        station.inbox.sensors()["pir-1"].accepted,
        station.inbox.sensors()["pir-1"].refused,
    )


def test_writing_a_window_again_gives_the_same_bytes(station: wiring.Pipeline, take: Take) -> None:
    """The file follows from the rows, in whatever order and batches they came."""
    take(trip(10), trip(20), trip(30))
    key = f"lake/readings/dt=2026-03-14/{WINDOW}.parquet"
    before = station.store.get(key)
    assert station.ledger.reopen("write_readings", WINDOW)
    runner.run_sensor_work(station)
    assert before == station.store.get(key)


def test_a_feed_that_breaks_off_keeps_what_it_gave(
    station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored and acknowledged before the failure stays; it was not listened to, though."""
    feed = FakeFeed([trip(10)])
    feed.away = True
    monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
    with pytest.raises(FeedTimeout):
        sensors.collect(station, "gate", for_s=1)
    assert (1, 1) == (feed.acknowledged, station.inbox.waiting())
    assert station.inbox.feeds()["gate"].listened_at is None


def test_silence_is_a_reading_while_the_feed_is_listened_to(station: wiring.Pipeline, take: Take) -> None:
    """It is noted once, is no trip, and ends with the next word; a sensor without an interval never is."""
    take(trip(10), trip(10, sensor="pir-2"))
    assert {"watched": 1, "silent": 1} == dict(sensors.note_silence(station).counts)
    assert 0 == sensors.note_silence(station).counts["silent"]
    runner.run_sensor_work(station)
    (silent,) = [
        item for item in schemas.readings_from(station.lake.scan("readings")) if item.kind == "sensor_silent"
    ]
    assert ("pir-1", START + timedelta(seconds=70), 60.0) == (silent.sensor_id, silent.at, silent.value)
    assert ["silent", "ok", "never"] == [item.state for item in sensors.health(station)]
    assert [(10, 10)] == spans(queries.events(station))
    take(trip(1750))
    assert ["ok", "ok", "never"] == [item.state for item in sensors.health(station)]


def test_no_sensor_is_silent_while_its_feed_is_down(station: wiring.Pipeline, take: Take) -> None:
    """Hours after the last listening there is no new silence: nobody listened."""
    station.now = lambda: START + timedelta(seconds=30)
    take(trip(10))
    station.now = lambda: START + timedelta(hours=9)
    assert 0 == sensors.note_silence(station).counts["silent"]


def test_a_backlog_that_was_not_read_to_its_end_makes_no_sensor_silent(
    station: wiring.Pipeline, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next word may be among what still waits."""
    station.now = lambda: START + timedelta(seconds=30)
    take(trip(10))
    feed = FakeFeed([trip(20)])
    feed.behind = True
    monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
    station.now = lambda: START + timedelta(minutes=2)
    sensors.collect(station, "gate", for_s=1)
    assert 0 == sensors.note_silence(station).counts["silent"]
    feed.behind = False
    sensors.collect(station, "gate", for_s=1)
    assert 1 == sensors.note_silence(station).counts["silent"]


def test_what_a_broker_kept_without_a_time_never_looks_live(station: wiring.Pipeline, take: Take) -> None:
    """After a pause it is dated by receipt, agrees with nothing, and its alert says that it may be old."""
    station.now = lambda: START - timedelta(hours=2)
    take()
    station.now = lambda: START + timedelta(seconds=3)
    kept = [
        FeedItem("1", START, Observation(name, "motion", 1.0, None), waited=True)
        for name in ("pir-1", "pir-2")
    ]
    take(*kept)
    (event,) = queries.events(station)
    assert (1, 2, 0.5) == (event.count, event.in_view, event.confidence)
    (alert,) = station.alert_book.alerts()
    assert Priority.P4 == alert.priority
    assert alert.message_en.startswith("NOT LIVE? These may be old readings.")


def test_a_feed_that_refuses_us_is_asked_again(
    station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An access list mended at night needs no restart of the watch."""

    class Refusing(FakeFeed):
        def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
            if not self.away:
                self.away = True
                raise AccessDenied("not you")
            self.away = False
            return super().batches(cursor, for_s=for_s)

    feed = Refusing([trip(10)])
    monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
    monkeypatch.setattr(watch, "ROUND_S", 0.1)
    told: list[Outcome] = []
    watch_sensors(station, for_s=0.5, told=told.append)
    assert "AccessDenied: not you" in [item.error for item in told]
    assert [(10, 10)] == spans(queries.events(station))


def test_sensors_never_heard_are_silent_after_a_while(station: wiring.Pipeline, take: Take) -> None:
    """One that was installed dead is told as silent too, counted from when it was first expected."""
    take(trip(10, sensor="pir-2"))
    assert 0 == sensors.note_silence(station).counts["silent"]
    station.inbox.listened("gate", since=START + timedelta(minutes=30), at=START + timedelta(hours=1))
    assert 1 == sensors.note_silence(station).counts["silent"]


def test_rules_are_asked_again_of_every_window(station: wiring.Pipeline, take: Take) -> None:
    """After a threshold changed, `retry --events` gives the events that it would have given."""
    take(trip(10))
    (sensor, *_) = station.sensors.sensors
    object.__setattr__(sensor, "trip_from", 5.0)
    assert 1 == runner.reopen_events(station)
    assert runner.run_open_work(station).failures == []
    assert [] == queries.events(station)
    assert [] == [info.key for info in station.store.list("evidence/")]


def test_a_window_without_trips_costs_no_events_file(station: wiring.Pipeline, take: Take) -> None:
    """Nothing is asked of windows in which nothing tripped; asked all the same, they publish nothing."""
    take(trip(10, value=0))
    assert station.ledger.work_on("publish_sensor_events", WINDOW) is None
    station.ledger.open_work("publish_sensor_events", WINDOW)
    assert {"events": 0} == dict(sensor_events.publish_sensor_events(station, WINDOW).counts)
    assert [] == [info.key for info in station.store.list("lake/events/")]


def test_a_wrong_registry_is_told_before_anything_is_taken(
    station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged that could not be judged."""
    feed = FakeFeed([trip(10)])
    monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
    assert station.settings.sensors.registry is not None
    station.settings.sensors.registry.write_text("{}")
    with pytest.raises(ConfigInvalid, match=r"sensors\.geojson"):
        sensors.collect(station, "gate", for_s=1)
    assert 0 == feed.acknowledged


def test_watching_goes_from_feed_to_alert(station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """It collects, writes, publishes and delivers by itself, and tells of each."""
    monkeypatch.setattr(wiring, "build_feed", lambda _: FakeFeed([trip(10)]))
    told: list[Outcome] = []
    watch_sensors(station, for_s=0.5, told=told.append)
    assert [(10, 10)] == spans(queries.events(station))
    assert {"collect_readings", "write_readings", "publish_sensor_events", "send_alerts"} <= {
        outcome.step for outcome in told
    }
    assert all(work.state is WorkState.DONE for work in station.ledger.work())


def test_watching_tells_of_a_feed_that_cannot_be_reached(
    station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is told, and what is open is done all the same."""
    feed = FakeFeed([trip(10)])
    feed.away = True
    monkeypatch.setattr(wiring, "build_feed", lambda _: feed)
    told: list[Outcome] = []
    watch_sensors(station, for_s=0.5, told=told.append)
    assert ["FeedTimeout: the broker went away"] == [item.error for item in told if item.error]
    assert [(10, 10)] == spans(queries.events(station))


def test_the_command_shows_sensors_and_feeds(station: wiring.Pipeline, take: Take) -> None:
    """`outwatch sensors --json` gives state, last value and counts; the table names each sensor."""
    take(trip(10, value=2), trip(11, value=99))
    shown = json.loads(CliRunner().invoke(app, ["sensors", "--json"]).stdout)
    first = shown["sensors"][0]
    assert ("pir-1", "ok", 2, 1, 1) == tuple(
        first[name] for name in ("sensor_id", "state", "last_value", "accepted", "refused")
    )
    assert [("gate", 1, 1)] == [(feed["feed"], feed["accepted"], feed["refused"]) for feed in shown["feeds"]]
    table = CliRunner().invoke(app, ["sensors"]).stdout
    assert all(name in table for name in ("pir-1", "pir-2", "far", "never", "gate"))


def test_the_watch_command_needs_a_feed(station: wiring.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it says where to write it."""
    monkeypatch.setenv("OUTWATCH_SENSORS__FEEDS", "[]")
    result = CliRunner().invoke(app, ["watch", "--for", "1"])
    assert (1, True) == (result.exit_code, "[[sensors.feeds]]" in result.output)


@pytest.mark.parametrize(
    ("feed", "fault"),
    [
        ({"type": "carrier-pigeon", "name": "x"}, "'mqtt', 'sensorthings', 'file'"),
        ({"type": "mqtt", "name": "x", "topics": []}, "host: Field required"),
        ({**FEED, "name": "No!"}, "name: String should match"),
    ],
)
def test_a_wrong_feed_is_named(feed: Mapping[str, object], fault: str, tmp_path: Path) -> None:
    """The message says which feed's which field, and what is expected."""
    with pytest.raises(ConfigInvalid, match=r"sensors\.feeds\.0") as caught:
        load_settings(home=tmp_path, sensors={"feeds": [feed]})
    assert fault in str(caught.value)


def test_two_feeds_of_one_name_and_odd_windows_are_refused(tmp_path: Path) -> None:
    """Where a feed stands is remembered by its name; windows divide a day."""
    with pytest.raises(ConfigInvalid, match="two feeds are named 'gate'"):
        load_settings(home=tmp_path, sensors={"feeds": [FEED, FEED]})
    with pytest.raises(ConfigInvalid, match="does not divide a day"):
        load_settings(home=tmp_path, sensors={"window": timedelta(minutes=7)})
    with pytest.raises(ConfigInvalid, match=r"sensors\.listen: .* must be longer than nothing"):
        load_settings(home=tmp_path, sensors={"listen": timedelta(0)})


@pytest.mark.parametrize(
    ("feed", "kind"),
    [
        (
            {"type": "mqtt", "name": "b", "host": "h", "topics": [{"sensor": "{1}", "kind": "motion"}]},
            "MqttFeed",
        ),
        ({"type": "sensorthings", "name": "s", "url": "https://host/v1.1"}, "SensorThingsFeed"),
        (FEED, "FileDropFeed"),
    ],
)
def test_each_kind_of_feed_is_built(feed: Mapping[str, object], kind: str, tmp_path: Path) -> None:
    """Settings alone decide which adapter it is."""
    (settings,) = load_settings(home=tmp_path, sensors={"feeds": [feed]}).sensors.feeds
    built = wiring.build_feed(settings)
    assert (kind, feed["name"]) == (type(built).__name__, built.name)
