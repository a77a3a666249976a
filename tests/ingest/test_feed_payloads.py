"""What payloads say: plain values, SensorThings, cameras and LoRaWAN, and what none of them may do."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.feeds.mapping import FieldMapping, TopicMapping
from ingest.feeds.measure import Problem
from ingest.feeds.payloads import MAX_PAYLOAD_BYTES, feed_items, read_payload
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Observation

NOW = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
PLAIN = TopicMapping(sensor="gate-1", kind="motion")
LORA = TopicMapping(
    payload="chirpstack",
    fields={
        "temp_SOIL": FieldMapping("soil_temperature", "°C"),
        "BatV": FieldMapping("battery", "mV", 1000.0),
    },
)
FRIGATE = TopicMapping(payload="frigate")
ONVIF = TopicMapping(payload="onvif")
THINGS = TopicMapping(payload="sensorthings", kind="heart_rate")
EVENT = {
    "id": "1773506400.5-abc",
    "camera": "north_gate",
    "label": "person",
    "sub_label": ["Jan Mohammad", 0.93],
    "recognized_license_plate": "LEA-1234",
    "attributes": {"face": 0.8},
    "current_attributes": [{"label": "face", "box": [1, 2, 3, 4], "score": 0.8}],
    "score": 0.78,
    "top_score": 0.95,
    "start_time": 1773506400.5,
    "frame_time": 1773506402.25,
    "end_time": None,
    "current_zones": ["road", "gate"],
    "has_clip": True,
    "false_positive": False,
}


def observations(data: object, mapping: TopicMapping, *, topic: str = "t") -> list[Observation]:
    """Return what a payload says, all of which must be observations."""
    found = read_payload(_bytes(data), topic=topic, mapping=mapping)
    assert [] == [one for one in found if isinstance(one, Problem)]
    return [one for one in found if isinstance(one, Observation)]


def problem(data: object, mapping: TopicMapping = PLAIN, *, topic: str = "t") -> str:
    """Return why a payload says nothing."""
    (found,) = read_payload(_bytes(data), topic=topic, mapping=mapping)
    assert isinstance(found, Problem)
    return found.why


def _bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    return (data if isinstance(data, str) else json.dumps(data)).encode()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("1", 1.0),
        ("-3.5e2", -350.0),
        ("true", 1.0),
        ("OFF", 0.0),
        ('"open"', 1.0),
        ({"value": True}, 1.0),
        ({"value": "13.25"}, 13.25),
        ("\ufeff7", 7.0),
    ],
)
def test_values_come_as_numbers_words_and_booleans(data: object, value: float) -> None:
    """Bare or under the value's path, with true and states as 1 and 0; a bare value has no time."""
    (found,) = observations(data, PLAIN)
    assert (value, None) == (found.value, found.at)


NO_NUMBERS = [
    *("nan", "NaN", "inf", "1e13", "9" * 5000, "1_0", "", "{", "\x00", '"' + "x" * 300 + '"'),
    *('{"value": Infinity}', '{"value": [1]}', '{"value": null}', '{"value": "soon"}'),
    *(b"\xff\xfe1", "1" * (MAX_PAYLOAD_BYTES + 1)),
]


@pytest.mark.parametrize("data", NO_NUMBERS)
def test_what_is_no_finite_number_is_a_problem(data: object) -> None:
    """NaN, infinity, numbers beyond any sensor, nothing and noise are refused in few words."""
    assert 0 < len(problem(data)) < 600


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-03-14T16:40:00Z", NOW),
        ("2026-03-14T21:40:00.000000000+05:00", NOW),
        (1773506400, NOW),
        ("1773506400.25", NOW + timedelta(seconds=0.25)),
        (1773506400250, NOW + timedelta(seconds=0.25)),
        (1773506400250000, NOW + timedelta(seconds=0.25)),
        (1773506400250000000, NOW + timedelta(seconds=0.25)),
    ],
)
def test_times_come_as_iso_8601_or_since_1970(written: object, at: datetime) -> None:
    """Seconds, milli-, micro- and nanoseconds are told apart by their size."""
    (found,) = observations({"value": 1, "time": written}, PLAIN)
    assert at == found.at


def test_a_time_without_a_zone_needs_a_declared_one() -> None:
    """Without it is refused rather than guessed; with it is converted."""
    data = {"value": 1, "time": "2026-03-14 21:40:00"}
    assert "declare zone" in problem(data)
    (found,) = observations(data, TopicMapping(sensor="x", kind="y", zone="Asia/Karachi"))
    assert NOW == found.at


@pytest.mark.parametrize(
    "written",
    [
        "yesterday",
        "2026-03-14",
        0,
        True,
        1e300,
        "1e999",
        10**50,
        "9" * 30,
        -5,
        -1e11,
        float("nan"),
        {},
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_time_is_a_problem(written: object) -> None:
    """Also a clock that was never set: 1970 is no time at which anything was measured."""
    mapping = TopicMapping(sensor="x", kind="y", time="time", zone="Asia/Karachi")
    assert "time" in problem({"value": 1, "time": written}, mapping)


def test_a_declared_time_must_be_there() -> None:
    """The problem names the field and what the payload has instead."""
    mapping = TopicMapping(sensor="x", kind="y", time="at")
    assert "payload has no 'at'; it has: value, ts" == problem({"value": 1, "ts": 1}, mapping)


def test_paths_and_templates_reach_into_payload_and_topic() -> None:
    """Sensor, kind, unit, value, time and id come from where the mapping says."""
    mapping = TopicMapping(
        filter="sites/+/#",
        sensor="{1}/{dev.id}",
        kind="{what}",
        unit="{u.0}",
        value="m.v",
        time="m.t",
        source_id="msg",
    )
    data = {"dev": {"id": 7}, "what": "gate", "u": ["m"], "m": {"v": 2, "t": 1773506400}, "msg": "a-1"}
    (found,) = observations(data, mapping, topic="sites/kohat/x")
    expected = Observation(sensor="kohat/7", kind="gate", value=2.0, at=NOW, unit="m", source_id="a-1")
    assert expected == found


def test_a_line_of_values_is_read_by_column() -> None:
    """Of comma-separated values the path is the column, from 0."""
    mapping = TopicMapping(sensor="{0}", kind="motion", value="1", time="0")
    (found,) = observations("2026-03-14T16:40:00Z, 4.5", mapping, topic="gate-9")
    assert ("gate-9", 4.5, NOW) == (found.sensor, found.value, found.at)


def test_several_fields_are_several_observations() -> None:
    """A field that is missing was not measured; a bad one is a problem beside the good ones."""
    fields = {
        "t": FieldMapping("temperature", "°C", scale=0.1, offset=-40),
        "h": FieldMapping("h"),
        "x": FieldMapping("x"),
    }
    mapping = TopicMapping(sensor="s", fields=fields, source_id="id")
    good, bad = read_payload(_bytes({"t": 650, "h": "wet", "id": "m"}), topic="t", mapping=mapping)
    assert (
        Observation(sensor="s", kind="temperature", value=25.0, at=None, unit="°C", source_id="m/t") == good
    )
    assert isinstance(bad, Problem)
    assert "payload has none of the declared fields t, h, x; it has: id" == problem({"id": "m"}, mapping)


def test_nesting_is_bounded() -> None:
    """Documents deeper than any real one are refused, at a depth that would end the interpreter too."""
    for depth in (33, 100_000):
        assert "deep" in problem('{"value": ' + "[" * depth + "]" * depth + "}") or depth > 30_000
    assert "value must be" in problem('{"value": ' + "[" * 20 + "]" * 20 + "}")


def test_reading_is_linear_in_the_payload() -> None:
    """The largest payloads of the worst shapes each take a small part of a second."""
    worst = ["[" * 65_000, '{"a":' * 13_000, '{"value":"' + "9" * 65_000 + '"}', "9" * 65_000, "," * 65_000,
             '{"sub_label":' + "[[]," * 15_000 + "1]}", "licen" * 13_000]  # fmt: skip
    started = time.process_time()
    for data in worst:
        feed_items(data.encode(), topic="t", mapping=PLAIN, received_at=NOW)
    assert time.process_time() - started < 1.0


def test_an_observation_of_sensorthings() -> None:
    """Result, interval, datastream and id; the end of an interval is its time."""
    record = {
        "@iot.id": 12,
        "result": 72,
        "phenomenonTime": "2026-03-14T16:30:00Z/2026-03-14T16:40:00Z",
        "Datastream": {"@iot.id": 5},
    }
    (found,) = observations(record, THINGS)
    assert ("5", 72.0, NOW, "12") == (found.sensor, found.value, found.at, found.source_id)
    assert {"interval_start": "2026-03-14T16:30:00Z"} == found.details


def test_the_standards_own_misspelt_example_is_read(samples: Path) -> None:
    """Its time stands under ``phenonmenonTime``; the datastream is in the topic."""
    text = (samples / "sensors" / "observation_mqtt.txt").read_text()
    (found,) = observations(text[text.index("{\n") :], THINGS, topic="v1.0/Datastreams(4)/Observations")
    assert ("4", 72.0, datetime(2015, 2, 5, 17, tzinfo=UTC)) == (found.sensor, found.value, found.at)


def test_a_real_uplink_gives_its_declared_fields(samples: Path) -> None:
    """Numbers as text are numbers; all share the uplink's time, and each has an id of its own."""
    data = (samples / "sensors" / "uplink_dragino_lse01.json").read_bytes()
    soil, battery = observations(data, LORA)
    assert ("a8404187d187106e", "soil_temperature", 13.25, "°C") == (
        soil.sensor,
        soil.kind,
        soil.value,
        soil.unit,
    )
    assert ("battery", 3301.0, "mV") == (battery.kind, battery.value, battery.unit)
    assert datetime(2024, 6, 20, 8, 48, 38, 863512, tzinfo=UTC) == soil.at == battery.at
    assert "9ffbc7be-916a-4597-9d64-0713a3d5e030/BatV" == battery.source_id


def test_an_uplink_of_version_3() -> None:
    """The EUI is base64 and the object is text in it."""
    record = {
        "devEUI": base64.b64encode(bytes.fromhex("a8404187d187106e")).decode(),
        "deviceName": "soil-1",
        "fCnt": 7,
        "rxInfo": [{"time": "2026-03-14T16:40:00Z", "rssi": -97}],
        "objectJSON": '{"temp_SOIL": "4.5"}',
    }
    (found,) = observations(record, LORA)
    assert ("a8404187d187106e", 4.5, NOW) == (found.sensor, found.value, found.at)
    assert {"device": "soil-1", "f_cnt": "7", "rssi": "-97"} == found.details


def test_an_uplink_that_was_not_decoded_says_what_to_do() -> None:
    """Without a codec the server sends bytes only."""
    assert "add a codec" in problem({"deviceInfo": {"devEui": "a8"}, "data": "AQ=="}, LORA)


def test_an_event_of_frigate() -> None:
    """A person at a camera with the score; an update's id tells it from the event's other updates."""
    (found,) = observations({"type": "update", "before": {}, "after": EVENT}, FRIGATE)
    assert ("north_gate", "person_detected", 0.78) == (found.sensor, found.kind, found.value)
    assert "1773506400.5-abc/update/1773506402.250" == found.source_id
    assert NOW + timedelta(seconds=2.25) == found.at
    assert {"road,gate", "true", "0.95"} <= set(found.details.values())


@pytest.mark.parametrize(("label", "kind"), [("car", "vehicle_detected"), ("Dog", "dog_detected")])
def test_kinds_of_things_follow_the_label(label: str, kind: str) -> None:
    """Vehicles of all sorts are one kind."""
    ended = {**EVENT, "label": label, "end_time": 1773506410}
    (found,) = observations({"type": "end", "after": ended}, FRIGATE)
    assert (kind, NOW + timedelta(seconds=10)) == (found.kind, found.at)


@pytest.mark.parametrize("label", ["face", "license_plate", "<script>"])
def test_faces_and_plates_are_not_taken(label: str) -> None:
    """They are no kinds of things that this house looks for."""
    assert "not taken" in problem({"type": "new", "after": {**EVENT, "label": label}}, FRIGATE)


def test_no_identity_is_read_or_kept() -> None:
    """Neither observations nor kept payloads, whole or cut, mapped or not, hold who was seen."""
    whole = json.dumps({"type": "new", "before": EVENT, "after": EVENT})
    plain = json.dumps({"value": 1, "plate": "LEA-1234", "who": {"sub_label": "Jan Mohammad"}})
    plate = json.dumps({"Data": {"SimpleItem": [{"Name": "LicensePlate", "Value": "LEA-1234"}]}})
    large = json.dumps({"sub_label": "Jan Mohammad", "pad": "x" * MAX_PAYLOAD_BYTES})
    reader = json.dumps({"type": "lpr", "name": "Jan Mohammad", "camera": "gate"})
    door = json.dumps({"Data": {"CredentialHolderName": "Jan Mohammad", "CardNumber": "LEA-1234"}})
    user = json.dumps({"Data": {"State": True, "UserName": "Jan Mohammad"}})
    for text in (whole, whole[:300], plain, plate, large, '"sub_label Jan Mohammad"', reader, door, user):
        for mapping in (FRIGATE, PLAIN, ONVIF, None):
            kept = repr(feed_items(text.encode(), topic="t", mapping=mapping, received_at=NOW))
            assert not any(word in kept for word in ("Jan Mohammad", "LEA-1234"))


@pytest.mark.parametrize("path", ["after.sub_label", "plateNumber", "FACE", "{recognized_license_plate}"])
def test_a_mapping_cannot_ask_for_an_identity(path: str) -> None:
    """Neither as a value nor as a sensor's name."""
    with pytest.raises(ConfigInvalid, match="who was seen"):
        TopicMapping(sensor="x", kind="y", value=path)
    with pytest.raises(ConfigInvalid, match="who was seen"):
        TopicMapping(sensor=path, kind="y")


def test_payloads_without_identities_are_kept_as_they_came() -> None:
    """Words that only look alike, such as surface, are no reason to touch a payload."""
    text = '{"surface": 3,   "value": "bad", "interface": "eth0", "helpr": 1}'
    (item,) = feed_items(text.encode(), topic="t", mapping=PLAIN, received_at=NOW)
    assert text == item.payload


MOTION = "tns1:RuleEngine/CellMotionDetector/Motion"
UTC_TIME = {"UtcTime": "2026-03-14T16:40:00Z"}
SOURCE = {"Name": "VideoSourceConfigurationToken", "Value": "cam-1"}
STATE = {"Name": "IsMotion", "Value": "true"}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "onvif-json": (
        "office/onvif-ej/RuleEngine/CellMotionDetector/Motion",
        {**UTC_TIME, "Source": {"VideoSourceToken": "cam-1"}, "Data": {"IsMotion": True}},
    ),
    "axis": (
        "axis/event",
        {
            "topic": "onvif:RuleEngine/MotionRegionDetector",
            "timestamp": 1773506400000,
            "message": {"source": {"VideoSource": "cam-1"}, "key": {}, "data": {"State": "1"}},
        },
    ),
    "simple-items": (
        "t",
        {
            "Topic": {"_value_1": MOTION},
            "Message": {
                "_value_1": {**UTC_TIME, "Source": {"SimpleItem": [SOURCE]}, "Data": {"SimpleItem": [STATE]}}
            },
        },
    ),
    "javascript": (
        "t",
        {
            "topic": {"_": MOTION},
            "message": {
                "message": {
                    "$": UTC_TIME,
                    "source": {"simpleItem": {"$": SOURCE}},
                    "data": {"simpleItem": {"$": STATE}},
                }
            },
        },
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_notification_of_onvif_in_each_shape(shape: str) -> None:
    """Motion of a source at a time, however a camera or bridge writes it."""
    topic, record = SHAPES[shape]
    (found,) = observations(record, ONVIF, topic=topic)
    assert ("cam-1", "motion", 1.0, NOW) == (found.sensor, found.kind, found.value, found.at)


def test_a_bridges_bare_state_takes_its_names_from_the_mapping() -> None:
    """The topic says motion, the template which camera."""
    mapping = TopicMapping(payload="onvif", sensor="{1}")
    (found,) = observations({"state": "OFF"}, mapping, topic="onvif2mqtt/yard/motion")
    assert ("yard", "motion", 0.0) == (found.sensor, found.kind, found.value)


def test_a_notification_without_a_state_is_a_problem() -> None:
    """A plate reader's message has none that is read."""
    record = {"Topic": "tns1:RuleEngine/LicensePlate", "Source": {"a": "b"}, "Data": {"Plate": "LEA-1234"}}
    why = problem(record, ONVIF)
    assert "none of the states" in why
    assert "LEA-1234" not in why


def test_texts_cannot_hide_or_break_anything() -> None:
    """Control signs, text direction and halves of characters do not reach ids, details or stores."""
    data = r'{"value": 1, "id": "a\u0000\u202eb\ud800\n c"}'
    (item,) = feed_items(
        data.encode(), topic="t", mapping=TopicMapping(sensor="{id}", kind="k"), received_at=NOW
    )
    assert item.observation is not None
    assert "a\ufffd\ufffdb\ufffd\ufffd c" == item.observation.sensor


def test_details_of_the_transport_are_added_and_missing_times_refused_on_demand() -> None:
    """A transport that comes late says why the time of receipt will not do."""
    data = b'{"value": 1, "time": 1773506400}'
    (item,) = feed_items(
        data, topic="t", mapping=PLAIN, received_at=NOW, details={"retained": "true"}, needs_time="late"
    )
    (late,) = feed_items(b"1", topic="t", mapping=PLAIN, received_at=NOW, needs_time="late")
    assert item.observation is not None
    assert {"retained": "true"} == item.observation.details
    assert ("late", None) == (late.problem, late.observation)


NAMES = (
    *("value", "time", "topic", "id", "type", "after", "camera", "label", "score", "start_time"),
    *("object", "objectJSON", "deviceInfo", "devEui", "devEUI", "rxInfo", "temp_SOIL"),
    *("result", "phenomenonTime", "Datastream", "@iot.id"),
    *("Source", "Data", "SimpleItem", "Name", "Value", "$", "IsMotion", "UtcTime"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner),
)
MAPPINGS = st.sampled_from(
    [
        PLAIN,
        LORA,
        FRIGATE,
        ONVIF,
        THINGS,
        None,
        TopicMapping(sensor="{a}{0}", kind="{b.0}", zone="Asia/Karachi"),
    ]
)


@given(JSON.map(lambda document: json.dumps(document).encode()) | st.binary(), MAPPINGS, st.text())
def test_no_payload_raises(data: bytes, mapping: TopicMapping | None, topic: str) -> None:
    """Whatever comes gives at least one item, each an observation or a problem, fit for a store."""
    items = feed_items(data, topic=topic, mapping=mapping, received_at=NOW)
    assert items
    for item in items:
        assert (item.observation is None) != (item.problem is None)
        assert "\x00" not in item.payload
        for text in (item.payload, item.problem or "", repr(item.observation)):
            text.encode()


def test_reading_5000_plain_messages_takes_a_small_part_of_a_second() -> None:
    """Half a core must do for the fastest feed; the bound is loose, for machines that are shared."""
    data = json.dumps({"value": 1, "time": "2026-03-14T16:40:00.123Z", "battery": 3.1}).encode()
    started = time.process_time()
    for _ in range(5000):
        feed_items(data, topic="sites/kohat/motion", mapping=PLAIN, received_at=NOW)
    assert time.process_time() - started < 0.5
