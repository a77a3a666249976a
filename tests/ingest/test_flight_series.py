"""Series of values over time: what lies between records, in holes, and where times are damaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.telemetry import attitude, series
from ingest.telemetry.flight_log import FlightLog, to_telemetry
from ingest.telemetry.series import Series
from outwatch.domain.attitude import rotation
from outwatch.domain.errors import TelemetryInvalid

HEADING, PITCH, ROLL = st.floats(0, 359.99), st.floats(-90, 90), st.floats(-180, 180)


@given(HEADING, PITCH, ROLL)
def test_quaternions_and_angles_are_one_attitude(heading: float, pitch: float, roll: float) -> None:
    """Angles to a quaternion and back name the same rotation, straight up and down too."""
    (back,) = attitude.to_angles(attitude.from_angles(heading, pitch, roll)).tolist()
    np.testing.assert_allclose(rotation(*back), rotation(heading, pitch, roll), atol=1e-7)


@given(st.tuples(HEADING, PITCH, ROLL), st.tuples(HEADING, PITCH, ROLL))
def test_composing_is_turning_one_after_the_other(first: tuple[float, ...], then: tuple[float, ...]) -> None:
    """The product of quaternions is the product of the rotations."""
    product = attitude.compose(attitude.from_angles(*first), attitude.from_angles(*then))
    (both,) = attitude.to_angles(product).tolist()
    np.testing.assert_allclose(rotation(*both), rotation(*first) @ rotation(*then), atol=1e-6)


@given(HEADING, st.floats(-80, 80), st.floats(-20, 20))
def test_attitudes_turn_the_short_way(heading: float, pitch: float, turn: float) -> None:
    """Half-way between two headings is the middle of the smaller turn, through north too."""
    found = series.angles([0.0, 1.0], [heading, (heading + turn) % 360], [pitch, pitch], [0.0, 0.0])
    ((middle, *_),) = attitude.to_angles(series.attitudes(found, np.array([0.5]))).tolist()
    assert 0 == pytest.approx((middle - heading - turn / 2 + 180) % 360 - 180, abs=0.05)


def test_a_straight_down_gimbal_keeps_its_way_up() -> None:
    """Between two poses a little before and past straight down, nothing spins."""
    found = series.angles([0.0, 1.0], [10.0, 190.0], [-89.9, -89.9], [0.0, 180.0])
    ((heading, pitch, roll),) = attitude.to_angles(series.attitudes(found, np.array([0.5]))).tolist()
    np.testing.assert_allclose(rotation(heading, pitch, roll), rotation(10.0, -90.0, 0.0), atol=1e-6)


def test_holes_are_not_bridged() -> None:
    """Between values more than 2.5 s apart, and beyond the ends, there is nothing."""
    found = series.heights([0.0, 2.0, 10.0], [0.0, 4.0, 6.0])
    values = series.linear(found, np.array([-1.0, -0.05, 1.0, 2.0, 5.0, 10.0, 10.05, 11.0]))[:, 0]
    np.testing.assert_array_equal(values, [np.nan, 0.0, 2.0, 4.0, np.nan, 6.0, 6.0, np.nan])


def test_a_damaged_time_costs_its_record() -> None:
    """A time far from its neighbours' is left out, a pause of the log is not."""
    true = [*range(10), *range(600, 610)]
    written = [*true[:4], 9e9, *true[4:15], 1.5, *true[15:]]
    assert true == series.of(written, written).t_s.tolist()


def test_places_cross_the_antimeridian_the_short_way() -> None:
    """Half-way between 179.9999 and -179.9999 degrees lies 180."""
    log = FlightLog(
        format="log",
        places=series.places([0.0, 1.0], [0.0, 0.0], [179.9999, -179.9999]),
        height_agl_m=series.heights([0.5], [60.0]),
    )
    assert 180 == pytest.approx(abs(to_telemetry(log).samples[1].point.lon_deg))


def test_samples_come_at_most_ten_a_second() -> None:
    """400 attitudes a second become ten, and ten stay ten."""
    for rate_hz in (10, 400):
        times = np.arange(0, 60, 1 / rate_hz)
        level = series.angles(times, times, times * 0, times * 0)
        assert 600 == len(
            to_telemetry(FlightLog(format="log", places=series.NOTHING, airframe=level)).samples
        )


def test_a_log_with_nothing_is_refused() -> None:
    """Neither place nor height nor attitude is no telemetry."""
    with pytest.raises(TelemetryInvalid, match="7 damaged"):
        to_telemetry(FlightLog(format="log", places=Series(np.empty(0), np.empty((0, 2))), skipped=7))
