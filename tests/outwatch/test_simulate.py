"""Scenarios, and the files that simulated flights leave."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.outposts import parse_outposts
from outwatch.domain.types import EventKind
from outwatch.settings import RuleSettings
from outwatch.simulate import (
    Scenario,
    SimulatedFlight,
    load_scenario,
    parse_scenario,
    shipped_scenarios,
    simulate,
)
from outwatch.simulate.actors import actors_of
from outwatch.simulate.render import Seen
from outwatch.simulate.truth import TruthFrame, TruthRules, derive_events
from outwatch.simulate.view import Pose, Site

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "start": datetime.fromisoformat("2026-03-14T21:40:00"),
    "duration_s": 2,
    "fps": 5,
    "origin": {"lat_deg": 33.5, "lon_deg": 71.4},
    "terrain": {"height_m": 500.0},
    "sway_m": 0.0,
    "noise": {
        "position_sigma_m": 0, "height_sigma_m": 0, "heading_sigma_deg": 0, "tilt_sigma_deg": 0,
    },
    "waypoints": [
        {"time_s": 0, "east_m": 0, "north_m": 0, "height_m": 60, "heading_deg": 0, "pitch_deg": -90},
    ],
    "people": [{"count": 1, "east_m": 4, "north_m": 3}],
    "vehicles": [{"path": [[-6, -4]], "heading_deg": 90}],
    "scenery": {"trees_per_hectare": 0},
    "outposts": [
        {
            "id": "post", "name": "Post", "name_ur": "چوکی", "kind": "police_outpost",
            "east_m": 40, "north_m": 0, "control_room": "kohat",
        },
    ],
}  # fmt: skip


def scenario(**changes: Any) -> Scenario:
    """Return the small scenario with changes."""
    return parse_scenario(SMALL | changes, source="test")


def frames_of(video: Path) -> list[np.ndarray[Any, Any]]:
    """Return a clip's frames in grey."""
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def truth_of(flight: SimulatedFlight) -> dict[str, Any]:
    """Return a flight's truth."""
    return json.loads(flight.truth.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFlight:
    """Return the small scenario, flown."""
    return simulate(scenario(), tmp_path_factory.mktemp("small"))


# --- scenarios


def test_shipped_scenarios_load() -> None:
    """Every scenario that comes along is valid and bears its file's name."""
    names = shipped_scenarios()
    assert {"demo_gathering", "demo_vehicles", "drill_quiet", "ridge"} <= set(names)
    assert [load_scenario(name).name for name in names] == list(names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration_s": -1}, r"duration_s: .*greater than 0 \(found -1\)"),
        ({"colour": "red"}, r"colour: .*found 'red'"),
        ({"people": [{"count": 0}]}, r"people\.0\.count"),
        ({"people": [{"count": 1, "motion": "walk"}]}, r"people\.0: .*at least two points"),
        ({"vehicles": [{"path": [[0, 0], [0, 0]]}]}, r"vehicles\.0\.path: .*the same"),
        ({"waypoints": []}, r"either waypoints or an orbit"),
        ({"time_zone": "Mars/Base"}, r"time_zone 'Mars/Base'"),
        ({"outposts": [SMALL["outposts"][0]] * 2}, r"id must be unique"),
        ({"outposts": [SMALL["outposts"][0] | {"kind": "castle"}]}, r"outposts\.0\.kind"),
        ({"name": "../up"}, r"name: "),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], words: str) -> None:
    """A scenario that is wrong says in which field."""
    with pytest.raises(ConfigInvalid, match=words):
        scenario(**changes)


def test_unknown_and_broken_files_are_refused(tmp_path: Path) -> None:
    """A name that is not shipped lists those that are; a file that is not TOML is named."""
    with pytest.raises(ConfigInvalid, match="demo_gathering"):
        load_scenario("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ", encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=r"broken\.toml cannot be read"):
        load_scenario(broken)


def test_local_start_is_in_the_zone_and_an_offset_wins() -> None:
    """A start without an offset is local time; one with an offset is taken as it is."""
    assert scenario().start_utc == datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
    at = datetime(2026, 3, 14, 21, 40, tzinfo=UTC)
    assert scenario(start=at).start_utc == at


def test_a_camera_in_the_ground_and_actors_off_it_are_refused(tmp_path: Path) -> None:
    """Places that the terrain cannot hold are errors before anything is written."""
    far = scenario(terrain={"relief_m": 50}, people=[{"count": 1, "east_m": 9000}])
    with pytest.raises(ConfigInvalid, match=r"people or vehicles at 9000 m east, 0 m north .* outside"):
        simulate(far, tmp_path)
    circle = {"east_m": 0, "north_m": 0, "radius_m": 600, "height_m": 1, "speed_m_s": 700}
    low = scenario(terrain={"relief_m": 500}, waypoints=[], orbit=circle, duration_s=5)
    with pytest.raises(ConfigInvalid, match="flies into the ground"):
        simulate(low, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- motion


def test_a_driving_car_keeps_its_speed_and_stops_at_the_end() -> None:
    """A car holds its speed, heads along its path and comes to rest where the path ends."""
    (car,) = actors_of(
        scenario(people=[], vehicles=[{"path": [[0, 0], [0, 100]], "speed_m_s": 10, "start_s": 1}])
    )
    assert car.stance(0).north_m == pytest.approx(0)
    assert car.stance(5).north_m - car.stance(4).north_m == pytest.approx(10)
    assert car.stance(60).north_m == pytest.approx(100)
    assert car.stance(4).heading_rad == pytest.approx(0)


def test_arrivals_end_up_apart_but_within_the_group() -> None:
    """Everyone who arrives stands within the group's circle and not inside another."""
    group = {"count": 14, "motion": "arrive", "spread_m": 4.5, "at_s": 8, "range_m": 20}
    actors = actors_of(scenario(people=[group], vehicles=[]))
    before = np.array([(a.stance(0).east_m, a.stance(0).north_m) for a in actors])
    after = np.array([(a.stance(20).east_m, a.stance(20).north_m) for a in actors])
    apart = np.hypot(*(after[:, None] - after[None]).transpose(2, 0, 1))[~np.eye(14, dtype=bool)]
    assert np.hypot(*after.T).max() < 6
    assert np.hypot(*before.T).mean() > 8
    assert apart.min() > 0.6


# --- files


def test_the_same_scenario_gives_the_same_bytes(small: SimulatedFlight, tmp_path: Path) -> None:
    """Flown again, a scenario leaves identical files; another seed does not."""
    again = simulate(scenario(), tmp_path / "again")
    other = simulate(scenario(seed=6), tmp_path / "other")
    for one, two in (
        (small.video, again.video),
        (small.telemetry, again.telemetry),
        (small.truth, again.truth),
    ):
        assert one.read_bytes() == two.read_bytes()
    assert small.video.read_bytes() != other.video.read_bytes()


def test_the_video_is_whole_and_dated(small: SimulatedFlight) -> None:
    """The clip has every frame, a keyframe a second and the scenario's time."""
    with av.open(str(small.video)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert container.metadata["creation_time"].startswith("2026-03-14T16:40:00")
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 640, 512)
        assert float(stream.average_rate) == 5
    assert [frame.key_frame for frame in frames] == [True, False, False, False, False] * 2
    assert small.frame_count == 10


def test_subtitles_say_the_pose_frame_by_frame(small: SimulatedFlight) -> None:
    """The telemetry has one block a frame in DJI's layout, in local time."""
    blocks = small.telemetry.read_text(encoding="utf-8").strip().split("\n\n")
    assert len(blocks) == 10
    assert blocks[1].splitlines() == [
        "2",
        "00:00:00,200 --> 00:00:00,400",
        '<font size="28">FrameCnt: 2, DiffTime: 200ms',
        "2026-03-14 21:40:00.200",
        (
            "[focal_len: 25.00] [latitude: 33.500000] [longitude: 71.400000] "
            "[rel_alt: 60.000 abs_alt: 560.000] [gb_yaw: 0.0 gb_pitch: -90.0 gb_roll: 0.0] </font>"
        ),
    ]


def test_bodies_are_drawn_where_the_truth_puts_them(small: SimulatedFlight) -> None:
    """The hot pixels of a lone person are centred in its box, which is where its place projects."""
    first = truth_of(small)["frames"][0]
    person, car = first["actors"]
    left, top, right, bottom = person["box_xyxy_px"]
    grey = frames_of(small.video)[0].astype(float)
    hot = np.argwhere(grey > 190)
    rows, columns = hot[(np.abs(hot - [(top + bottom) / 2, (left + right) / 2]) < 40).all(axis=1)].T
    focal_px = 25 / 0.017
    foot = (320 + focal_px * 4 / 60, 256 - focal_px * 3 / 60)
    assert columns.mean() + 0.5 == pytest.approx((left + right) / 2, abs=1.0)
    assert rows.mean() + 0.5 == pytest.approx((top + bottom) / 2, abs=1.0)
    assert left < foot[0] < right
    assert top < foot[1] < bottom
    assert (person["label"], car["label"]) == ("person", "car")
    # its rear at deck height 0.9 m, its front at the sill 0.12 m, and a pixel of blur on both sides
    length_px = focal_px * (8.25 / 59.1 - 3.75 / 59.88) + 2
    assert car["box_xyxy_px"][2] - car["box_xyxy_px"][0] == pytest.approx(length_px, abs=0.01)
    assert (person["visible_fraction"], car["visible_fraction"]) == (1.0, 1.0)


def test_who_is_out_of_view_or_behind_a_wall_does_not_count(tmp_path: Path) -> None:
    """Someone outside the frame has no box; someone at the edge is cut; a house hides who is behind it."""
    hover = SMALL["waypoints"][0] | {"pitch_deg": -45, "height_m": 40}
    people = [
        {"count": 1, "east_m": 60, "north_m": 40},
        {"count": 1, "east_m": -12.25, "north_m": 40},
        {"count": 1, "east_m": -3.5, "north_m": 52.2},
    ]
    compound = {"east_m": 0, "north_m": 42.0, "size_m": 20}
    flight = simulate(
        scenario(
            people=people, vehicles=[], waypoints=[hover], duration_s=0.2,
            scenery={"trees_per_hectare": 0, "compounds": [compound]},
        ),
        tmp_path,
    )  # fmt: skip
    outside, edge, behind = truth_of(flight)["frames"][0]["actors"]
    assert outside["box_xyxy_px"] is None
    assert outside["visible_fraction"] == 0
    assert edge["box_xyxy_px"][0] == 0
    assert 0 < edge["visible_fraction"] < 1
    assert behind["visible_fraction"] < 0.5


def test_outposts_are_readable_by_outwatch(small: SimulatedFlight) -> None:
    """The outposts file is the one that Outwatch is set up with, Urdu and all."""
    data = json.loads(small.outposts.read_text(encoding="utf-8"))
    (outpost,) = parse_outposts(data, source="outposts.geojson")
    assert (outpost.id, outpost.name_ur, outpost.watch_radius_m) == ("post", "چوکی", 150)
    assert outpost.geometry.y == pytest.approx(33.5)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    """Progress is told after every frame."""
    calls: list[tuple[int, int]] = []
    simulate(scenario(duration_s=0.6), tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


# --- events


def test_a_group_that_stays_is_one_gathering_and_a_parked_car_one_vehicle(tmp_path: Path) -> None:
    """Nine people who stand together for the whole flight near a post are one event with their count."""
    group = {"count": 9, "east_m": 1, "north_m": 1, "spread_m": 3}
    flight = simulate(scenario(people=[group], duration_s=17, fps=1), tmp_path)
    gathering, vehicle = flight.events
    assert gathering.kind == EventKind.GATHERING_NEAR_OUTPOST
    assert (gathering.outpost_id, gathering.count, gathering.count_low) == ("post", 9, 9)
    assert (gathering.start_s, gathering.end_s) == (0, 16)
    assert gathering.distance_m == pytest.approx(39, abs=1)
    assert (vehicle.kind, vehicle.count) == (EventKind.VEHICLE_NEAR_OUTPOST, 1)


def test_few_brief_or_distant_things_are_no_events(tmp_path: Path) -> None:
    """Seven people, a group that is seen briefly, and anything far from every post are not reported."""
    few = simulate(scenario(people=[{"count": 7}], vehicles=[], duration_s=17, fps=1), tmp_path)
    brief = simulate(scenario(people=[{"count": 9}], vehicles=[], duration_s=10, fps=1), tmp_path)
    far_post = [SMALL["outposts"][0] | {"east_m": 400}]
    far = simulate(scenario(people=[{"count": 9}], duration_s=17, fps=1, outposts=far_post), tmp_path)
    assert (few.events, brief.events, far.events) == ((), (), ())


def people_at(offset_s: float, *places: tuple[float, int]) -> TruthFrame:
    """Return a frame that shows groups in tight rows, given by metres east and number of people."""
    pose = Pose(0.0, 0.0, 60.0, 0.0, -90.0)
    seen = [
        Seen("person", np.array([east_m + 0.5 * number, 0.0, 0.0]), None, 1.0)
        for east_m, count in places
        for number in range(count)
    ]
    return TruthFrame(round(offset_s * 5), offset_s, pose, pose, tuple(seen))


def gatherings_in(frames: list[TruthFrame]) -> list[tuple[float, float, int]]:
    """Return start, end and count of every true gathering around the small scenario's post."""
    found = derive_events(scenario(), frames=frames, site=Site(33.5, 71.4, 500.0), rules=TruthRules())
    return [(event.start_s, event.end_s, event.count) for event in found]


@pytest.mark.parametrize(("apart_m", "expected"), [(100.0, [(0, 20, 12), (0, 20, 9)]), (30.0, [(0, 20, 12)])])
def test_every_group_is_followed(apart_m: float, expected: list[tuple[float, float, int]]) -> None:
    """Two groups far apart are two gatherings; near ones are one, counted by the larger."""
    frames = [people_at(second, (0.0, 12), (apart_m, 9)) for second in range(21)]
    assert sorted(gatherings_in(frames)) == sorted(expected)


@pytest.mark.parametrize(
    ("gap_s", "apart_m", "expected"),
    [
        (100.0, 0.0, [(0, 140, 9)]),
        (121.0, 0.0, [(0, 20, 9), (141, 161, 9)]),
        (100.0, 80.0, [(0, 20, 9), (120, 140, 9)]),
    ],
)
def test_gathering_that_is_seen_again_is_one_as_the_rules_merge_it(
    gap_s: float, apart_m: float, expected: list[tuple[float, float, int]]
) -> None:
    """Within two minutes and sixty metres it is the same one; the camera looked away."""
    frames = [people_at(second, (0.0, 9)) for second in range(21)]
    frames += [people_at(20 + gap_s + second, (apart_m, 9)) for second in range(21)]
    assert gatherings_in(frames) == expected


def test_brief_looks_do_not_add_up_to_a_gathering() -> None:
    """Some part must last by itself; looks half a minute apart do not."""
    assert gatherings_in([people_at(30.0 * number, (0.0, 9)) for number in range(6)]) == []


def test_rules_of_the_truth_are_those_of_the_pipeline() -> None:
    """Truth and pipeline restate one definition of an event."""
    rules = RuleSettings().model_dump()
    for name, value in asdict(TruthRules()).items():
        theirs = rules[name] if name in rules else rules[name.removesuffix("_s")].total_seconds()
        assert theirs == value, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo_gathering", [("gathering_near_outpost", "shahbaz-post", 14)]),
        ("demo_vehicles", [("vehicle_near_outpost", "spin-school", 3)]),
        (
            "drill_daylight",
            [("gathering_near_outpost", "drill-school", 12), ("vehicle_near_outpost", "drill-school", 1)],
        ),
        ("drill_quiet", []),
        ("ridge", [("gathering_near_outpost", "ghat-post", 12)]),
    ],
)
def test_shipped_scenarios_tell_what_they_promise(
    name: str, expected: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    """Each shipped scenario holds the events that its first line describes."""
    flight = simulate(replace(load_scenario(name), fps=2), tmp_path)
    assert expected == [(event.kind, event.outpost_id, event.count) for event in flight.events]
    assert (flight.dem is not None) == (name == "ridge")
