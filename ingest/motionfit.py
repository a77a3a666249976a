"""Find a clip in a log by motion: the offset at which the log explains how the picture moves.

Belongs here: predicting the picture's motion from poses, and comparing the two. Not here: measuring the
picture (``motion.py``), and which offsets are worth comparing (``clockfit.py``).

A log with the camera's angles predicts shift and turn of the picture: the centre's line of sight turns
with the camera, and with the ground that passes under it. A log without them predicts only how busy the
picture is, from speed over height and from the airframe's turning. Neither the lens nor the height of
the ground need be known, as shift and turn are each compared up to a positive factor.

What is compared is how large a share of the picture's motion the log explains at an offset. With
residuals taken as Gaussian, that share gives each offset's likelihood beside the best one's. Offsets
that are nearly as likely as the best must lie together in a short interval, whose width is then the
uncertainty; else the motion cannot tell, as in a hover, in steady flight, or in rounds flown alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from ingest.motion import LONGEST_S, LONGEST_STEP_S, WIDTH_PX, FloatArray, MotionTrack
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Telemetry, TelemetrySample

GRID_HZ = 10.0
"""Rate of the time line on which motion and log are compared: twice that of the frames."""
SMOOTHING_S = 1.0
"""Both are averaged over this: logs of one fix a second and cameras that hold a picture for half a
second then compare like any other."""
HOLE_S = 1.5
"""Farther from a sample than this, a log says nothing: it bridges logs of one fix a second."""
LOWEST_M, ASSUMED_HEIGHT_M = 5.0, 50.0
"""Least height that speed is divided by, and the one taken where a log has none."""
LEAST_DEPRESSION = 0.1
"""Sine of the least angle below the horizon: above it the ground is too far for its motion to show."""
MIN_COMPARED_S = 8.0
MIN_COMPARED_SHARE = 0.5
"""Least time, and least share of the motion, that the log must cover for an offset to be compared."""
INDEPENDENT_S = 2.0
"""Residuals this far apart are taken as independent: twice the smoothing."""
RIVAL_LOG = 7.0
"""Offsets whose log-likelihood is less than this below the best are rivals: at most a thousandth as
likely ones are not."""
CHANCE = 0.002
"""Odds at which a log of another flight may seem to fit. Measured: of 2,790 comparisons of simulated clips
with logs of other flights none passed."""
NINETY_FIVE_LOG = 1.92
"""Half the 0.95 quantile of chi-square with one degree of freedom: the likelihood interval's drop."""
WIDEST_S = 5.0
"""Widest half-interval that is still called an answer."""
SYSTEMATIC_S = 0.3
"""What no correlation shows: receivers' filters lag by a tenth or two, and frames are taken for instants."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MotionMatch:
    """Where on a log's time line a clip starts, as the motion says."""

    offset_s: float
    """From the log's zero to the clip's first frame."""
    uncertainty_s: float
    """Half-width of what holds the true offset with probability of about 0.95."""
    explained: float
    """Share of the picture's motion that the log explains, 0 to 1."""


def match_motion(
    track: MotionTrack, telemetry: Telemetry, *, windows: Sequence[tuple[float, float]]
) -> MotionMatch | None:
    """Return the offset at which a log explains a picture's motion, None where the motion cannot tell.

    Args:
        track: of the clip.
        telemetry: the log; offsets in its own seconds.
        windows: least and greatest offset of the clip's first frame in the log that may be, each.
    """
    seen = _seen(track)
    if seen is None or not windows:
        return None
    flown = _Flown.of(telemetry)
    seen = seen if flown.has_camera else seen.busy()
    offsets_s, likelihood, explained, window = _compare_all(seen, flown, _merged(windows))
    if not offsets_s.size:
        return None
    best = int(np.argmax(likelihood))
    rivals = np.flatnonzero(likelihood > likelihood[best] - RIVAL_LOG)
    near = rivals[likelihood[rivals] > likelihood[best] - NINETY_FIVE_LOG]
    at_edge = best in {0, len(offsets_s) - 1} or window[best - 1] != window[best + 1]
    apart_s = float(np.abs(offsets_s[rivals] - offsets_s[best]).max())
    chance = _chance(seen, explained=float(explained[best]), offsets=len(offsets_s))
    if chance > CHANCE or apart_s > WIDEST_S or at_edge:
        log.info("motion_cannot_tell", chance=round(chance, 4), rivals_s=round(apart_s, 1))
        return None
    width_s = float(np.abs(offsets_s[near] - offsets_s[best]).max())
    return MotionMatch(float(offsets_s[best]), width_s + SYSTEMATIC_S, float(explained[best]))


@dataclass(frozen=True, slots=True, eq=False)
class _Signal:
    """Rates on a regular time line: shift right, shift down and turn as rows, and where they are known."""

    rates: FloatArray
    """(3, n)."""
    known: FloatArray
    """(n,), 1 or 0."""

    def busy(self) -> _Signal:
        """Return how much moves at all, as one row."""
        return _Signal((np.hypot(self.rates[0], self.rates[1]) + np.abs(self.rates[2]))[None], self.known)


def _seen(track: MotionTrack) -> _Signal | None:
    """Return a track on the time line, from 0 on; None where too little of it is known."""
    if len(track.offsets_s) < 2 or track.offsets_s[-1] > LONGEST_S + LONGEST_STEP_S:  # noqa: PLR2004 - a line
        return None
    times_s = np.arange(0, track.offsets_s[-1] + 1 / GRID_HZ, 1 / GRID_HZ)
    # A turn is weighed by what it moves half-way to the edge, so that noise of both weighs alike.
    rows = (*track.shift_px_s.T, track.turn_rad_s * WIDTH_PX / 4)
    rates = np.array([_smooth(np.interp(times_s, track.offsets_s, row)) for row in rows])
    known = (_distance(times_s, track.offsets_s) <= LONGEST_STEP_S / 2).astype(np.float64)
    return _Signal(rates, known) if known.sum() >= MIN_COMPARED_S * GRID_HZ else None


@dataclass(frozen=True, slots=True, eq=False)
class _Flown:
    """A log as columns: what is known of the camera at the times at which it is known."""

    position: tuple[FloatArray, FloatArray]
    """Times (n,) in seconds and metres east and north (n, 2)."""
    height: tuple[FloatArray, FloatArray]
    heading: tuple[FloatArray, FloatArray]
    """Radians, unwrapped; the camera's, or the airframe's where ``has_camera`` is false."""
    pitch: tuple[FloatArray, FloatArray]
    roll: tuple[FloatArray, FloatArray]
    has_camera: bool

    @classmethod
    def of(cls, telemetry: Telemetry) -> _Flown:
        """Return the columns of a log."""
        samples = telemetry.samples
        has_camera = any(
            sample.pitch_deg is not None and sample.heading_deg is not None for sample in samples
        )
        headings = [sample.heading_deg if has_camera else sample.airframe_heading_deg for sample in samples]
        return cls(
            position=_position(samples),
            height=_column(samples, [sample.height_agl_m for sample in samples]),
            heading=_angles(samples, headings),
            pitch=_angles(samples, [sample.pitch_deg for sample in samples]),
            roll=_angles(samples, [sample.roll_deg for sample in samples]),
            has_camera=has_camera,
        )

    def signal(self, times_s: FloatArray) -> _Signal:
        """Return the motion that the picture must show at times of the log.

        The line of sight f, with r and d the image's right and down, stays on a point of the ground at
        the distance D while the camera moves by v: the point drifts by -(f' + v / D) along r and d.
        With heading h and pitch p, f' is h' cos p along r and -p' along d, and the camera turns about
        f by -h' sin p, and with its roll.
        """
        east_m_s, north_m_s = (_rate(times_s, self.position[0], row) for row in self.position[1].T)
        height_m = np.maximum(_at(times_s, self.height, unknown=ASSUMED_HEIGHT_M), LOWEST_M)
        heading_rad_s = _rate(times_s, *self.heading)
        known = _distance(times_s, self.position[0]) <= HOLE_S
        if not self.has_camera:
            rates = np.array([np.hypot(east_m_s, north_m_s) / height_m, 0 * times_s, heading_rad_s])
            return _Signal(rates, known.astype(np.float64))
        known &= _distance(times_s, self.heading[0]) <= HOLE_S
        heading, pitch = _at(times_s, self.heading), _at(times_s, self.pitch)
        per_m = np.maximum(-np.sin(pitch), LEAST_DEPRESSION) / height_m
        right_m_s = east_m_s * np.cos(heading) - north_m_s * np.sin(heading)
        forward_m_s = east_m_s * np.sin(heading) + north_m_s * np.cos(heading)
        up_m_s = _rate(times_s, *self.height)
        # d = (forward * sin p, -cos p) in the plane of forward and up.
        down_m_s = forward_m_s * np.sin(pitch) - up_m_s * np.cos(pitch)
        rates = np.array(
            [
                -(heading_rad_s * np.cos(pitch) + right_m_s * per_m),
                _rate(times_s, *self.pitch) - down_m_s * per_m,
                heading_rad_s * np.sin(pitch) - _rate(times_s, *self.roll),
            ]
        )
        return _Signal(rates, known.astype(np.float64))


def _position(samples: Sequence[TelemetrySample]) -> tuple[FloatArray, FloatArray]:
    placed = [(sample.offset_s, sample.point) for sample in samples if sample.point is not None]
    if not placed:
        return np.empty(0), np.empty((0, 2))
    frame = LocalFrame.at(placed[0][1])
    lat_deg, lon_deg = (
        np.array([getattr(point, name) for _, point in placed]) for name in ("lat_deg", "lon_deg")
    )
    return np.array([time_s for time_s, _ in placed]), np.column_stack(frame.to_local(lat_deg, lon_deg))


def _column(
    samples: Sequence[TelemetrySample], values: Sequence[float | None]
) -> tuple[FloatArray, FloatArray]:
    known = [
        (sample.offset_s, value) for sample, value in zip(samples, values, strict=True) if value is not None
    ]
    table = np.array(known, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _angles(
    samples: Sequence[TelemetrySample], values_deg: Sequence[float | None]
) -> tuple[FloatArray, FloatArray]:
    times_s, angles_deg = _column(samples, values_deg)
    return times_s, np.unwrap(np.radians(angles_deg))


def _at(times_s: FloatArray, column: tuple[FloatArray, FloatArray], *, unknown: float = 0.0) -> FloatArray:
    known_s, values = column
    return np.interp(times_s, known_s, values) if len(known_s) else np.full(len(times_s), unknown)


def _rate(times_s: FloatArray, known_s: FloatArray, values: FloatArray) -> FloatArray:
    """Return the rate of change of what is known, averaged over ``SMOOTHING_S``; 0 where nothing is."""
    half_s = SMOOTHING_S / 2
    column = known_s, values
    return (_at(times_s + half_s, column) - _at(times_s - half_s, column)) / SMOOTHING_S


def _distance(times_s: FloatArray, known_s: FloatArray) -> FloatArray:
    """Return how far each time is from the nearest of the known ones, which rise; infinite without any."""
    if not len(known_s):
        return np.full(len(times_s), math.inf)
    after = np.searchsorted(known_s, times_s).clip(1, max(1, len(known_s) - 1))
    before_s, after_s = known_s[after - 1], known_s[np.minimum(after, len(known_s) - 1)]
    nearest_s: FloatArray = np.minimum(np.abs(times_s - before_s), np.abs(times_s - after_s))
    return nearest_s


def _smooth(row: FloatArray) -> FloatArray:
    """Average over ``SMOOTHING_S``, as ``_rate`` does."""
    width = round(SMOOTHING_S * GRID_HZ)
    padded = np.pad(row, (width // 2, width - 1 - width // 2), mode="edge")
    smooth: FloatArray = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    return smooth


def _merged(windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return windows in order, those that overlap as one."""
    merged: list[tuple[float, float]] = []
    for low_s, high_s in sorted(windows):
        if merged and low_s <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], high_s)
        else:
            merged.append((low_s, high_s))
    return merged


def _compare_all(
    seen: _Signal, flown: _Flown, windows: Sequence[tuple[float, float]]
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return offsets, log-likelihoods, explained shares and the number of the window, (m,) each.

    Offsets at which the log covers too little are left out.
    """
    columns: list[tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.int64]]] = []
    for number, (low_s, high_s) in enumerate(windows):
        offsets_s = low_s + np.arange(math.floor((high_s - low_s) * GRID_HZ) + 1) / GRID_HZ
        times_s = low_s + np.arange(len(offsets_s) + seen.known.size - 1) / GRID_HZ
        predicted = flown.signal(times_s)
        explained, compared_s = _compare(seen, predicted if flown.has_camera else predicted.busy())
        least_s = max(MIN_COMPARED_S, MIN_COMPARED_SHARE * seen.known.sum() / GRID_HZ)
        likelihood = -compared_s / INDEPENDENT_S / 2 * np.log1p(-explained)
        fits = compared_s >= least_s
        columns.append(
            (offsets_s[fits], likelihood[fits], explained[fits], np.full(fits.sum(), number, dtype=np.int64))
        )
    offsets, likelihoods, shares, numbers = zip(*columns, strict=True)
    return tuple(map(np.concatenate, (offsets, likelihoods, shares, numbers)))  # type: ignore[return-value]


def _chance(seen: _Signal, *, explained: float, offsets: int) -> float:
    """Return the odds that a log of another flight explains as much at any of so many offsets.

    Two unrelated signals agree as by as many independent values as the time compared holds spans of the
    integral of the squared autocorrelation (Bartlett 1935), taken to be alike in both. A single turn is
    one or two such values, however long it is watched: it fits any other turn.
    """
    rates = (seen.rates - seen.rates[:, seen.known > 0].mean(axis=1, keepdims=True)) * seen.known
    size = 2 * rates.shape[1]
    spectrum = (np.abs(np.fft.rfft(rates, size)) ** 2).sum(axis=0)
    correlation = np.fft.irfft(spectrum, size)
    if correlation[0] <= 0:
        return 1.0
    span = max(1.0, float((correlation**2).sum() / correlation[0] ** 2))
    return float((1 + offsets / span) * (1 - explained) ** (seen.known.sum() / span / 2))


def _compare(seen: _Signal, predicted: _Signal) -> tuple[FloatArray, FloatArray]:
    """Return for every lag what share of the motion is explained, and how many seconds were compared.

    Shift and turn are each fitted up to a factor above 0, after the means over what is known of both.
    """
    count = np.maximum(_slide(seen.known, predicted.known), 1e-9)
    rises = np.zeros((seen.rates.shape[0], 3, len(count)))
    for row, (y, p) in enumerate(
        zip(seen.rates * seen.known, predicted.rates * predicted.known, strict=True)
    ):
        y_sum, p_sum = _slide(y, predicted.known), _slide(seen.known, p)
        rises[row, 0] = _slide(y, p) - y_sum * p_sum / count
        rises[row, 1] = _slide(seen.known, p * p) - p_sum**2 / count
        rises[row, 2] = _slide(y * y, predicted.known) - y_sum**2 / count
    total = np.maximum(rises[:, 2].sum(axis=0), 1e-9)
    explained = np.zeros(len(count))
    for block in (rises[:2].sum(axis=0), rises[2:].sum(axis=0)):
        explained += np.maximum(block[0], 0) ** 2 / np.maximum(block[1], 1e-9)
    return np.clip(explained / total, 0, 0.999), count / GRID_HZ


def _slide(short: FloatArray, long: FloatArray) -> FloatArray:
    """Return the products' sums of a short row laid along a long one at every place where it fits."""
    size = 1 << (len(long) + len(short)).bit_length()
    product = np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size))
    return np.asarray(np.fft.irfft(product, size)[: len(long) - len(short) + 1])
