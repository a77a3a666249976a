"""What things look like to a camera: grey levels at night to a thermal one, colours by day to an RGB one.

Belongs here: tones and who picks them. Not here: shapes (``actors.py``, ``scenery.py``) and drawing
(``render.py``).

Thermal levels are those of HIT-UAV's night images, white-hot: people saturate, glass and roofs mirror the
cold sky. Colours are (blue, green, red) of a dry valley under a high sun, chosen by eye against daylight
footage from above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from outwatch.domain.types import Modality

Tone = float | tuple[float, float, float]
"""A grey level, or blue, green and red: 0 to 255, before the sensor."""
_LEAF_LEVEL = 116.0
"""The grey level of a leaf that has the palette's own colour."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The tones of what stands still."""

    base: Tone
    fields: tuple[Tone, ...]
    """What crops and fallow add to the ground."""
    bund: Tone
    verge: Tone
    kerb: Tone
    road: Tone
    lane: Tone
    yard: Tone
    roof: Tone
    wall: Tone
    coping: Tone
    fence: Tone
    tank: Tone
    sky: Tone
    roughness: float
    """How much of the thermal ground's roughness this one has."""
    leaves: tuple[float, float, float] | None
    """None where leaves are as warm as they are."""

    def leaf(self, level: float) -> Tone:
        """Return the tone of a leaf that is of a grey level at night."""
        if self.leaves is None:
            return level
        return scaled(self.leaves, level / _LEAF_LEVEL)


def scaled(tone: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    """Return a colour in more or less light."""
    blue, green, red = tone
    return factor * blue, factor * green, factor * red


NIGHT = Palette(
    base=124.0,
    fields=(-44.0, -30.0, -16.0, 0.0, 6.0),
    bund=16.0,
    verge=104.0,
    kerb=162.0,
    road=138.0,
    lane=147.0,
    yard=134.0,
    roof=58.0,
    wall=128.0,
    coping=162.0,
    fence=120.0,
    tank=92.0,
    sky=34.0,
    roughness=1.0,
    leaves=None,
)
DAY = Palette(
    base=(116.0, 140.0, 154.0),
    fields=(
        (-66.0, -38.0, -72.0),
        (-52.0, -22.0, -46.0),
        (-26.0, -10.0, -14.0),
        (0.0, 0.0, 0.0),
        (4.0, 8.0, 14.0),
    ),
    bund=(14.0, 16.0, 20.0),
    verge=(112.0, 128.0, 138.0),
    kerb=(150.0, 158.0, 164.0),
    road=(104.0, 106.0, 108.0),
    lane=(112.0, 114.0, 116.0),
    yard=(138.0, 156.0, 168.0),
    roof=(150.0, 160.0, 168.0),
    wall=(120.0, 140.0, 154.0),
    coping=(150.0, 166.0, 176.0),
    fence=(104.0, 122.0, 134.0),
    tank=(150.0, 96.0, 60.0),
    sky=(214.0, 190.0, 172.0),
    roughness=0.8,
    leaves=(44.0, 84.0, 58.0),
)


def palette_of(modality: Modality) -> Palette:
    """Return the tones of what stands still, as a camera sees them."""
    return DAY if modality is Modality.RGB else NIGHT


def sunlight_of(modality: Modality, *, seed: int) -> npt.NDArray[np.float64] | None:
    """Return where a scene's light goes, a unit vector (east, north, up); None for a camera at night."""
    if modality is not Modality.RGB:
        return None
    random = np.random.default_rng([seed, 9])
    azimuth, height = random.uniform(0, 2 * math.pi), math.radians(random.uniform(35, 65))
    level = math.cos(height)
    return np.array([level * math.sin(azimuth), level * math.cos(azimuth), -math.sin(height)])


@dataclass(frozen=True, slots=True)
class Look:
    """What tells one person from another, seen from above; the tones are a warm body's at night."""

    legs: Tone = 214.0
    arms: Tone = 220.0
    torso: Tone = 226.0
    shoulders: Tone = 230.0
    head: Tone = 240.0
    hair: Tone = 230.0
    """Hair and caps insulate."""
    arms_m: tuple[float, float] = (0.0, 0.0)
    """How far ahead the left and the right hand are held."""


def warm_look(random: np.random.Generator) -> Look:
    """Return a person at night."""
    level, hair = random.uniform(222, 240), random.uniform(120, 235)
    return Look(level - 16, level - 10, level - 4, level, level + 10, hair, arms_m=_hands(random))


_CLOTHES = (
    (214, 220, 224), (176, 196, 206), (120, 140, 152), (86, 96, 104), (60, 70, 96), (110, 84, 60),
    (58, 50, 46), (70, 62, 128), (84, 104, 70), (40, 40, 42),
)  # fmt: skip
_ONE_CLOTH = 0.6
_CAPS = ((34, 36, 40), (48, 56, 70), (206, 212, 216), (96, 112, 128))
_SKIN = (92.0, 120.0, 158.0)


def dressed_look(random: np.random.Generator) -> Look:
    """Return a person by day: long shirt and trousers, often of one cloth, and hair or a cap."""
    shirt, other = (_colour(random, _CLOTHES) for _ in range(2))
    trousers = shirt if random.random() < _ONE_CLOTH else other
    cap = _colour(random, _CAPS)
    return Look(
        scaled(trousers, 0.7), scaled(shirt, 0.85), scaled(shirt, 0.9), shirt, _SKIN, cap, _hands(random)
    )


def _hands(random: np.random.Generator) -> tuple[float, float]:
    return random.uniform(-0.1, 0.45), random.uniform(-0.1, 0.45)


@dataclass(frozen=True, slots=True)
class CarTones:
    """The tones of a car's faces."""

    sill: Tone
    sides: Tone
    deck: Tone
    hood: Tone
    glass: Tone
    roof: Tone


_WARM, _TYRES, _COLD_GLASS, _COLD_ROOF = 236.0, 206.0, 52.0, 62.0


def warm_car(random: np.random.Generator, *, running: bool) -> CarTones:
    """Return a car at night, its engine and tyres warm where it is or was just running."""
    paint = random.uniform(146, 168)
    hood = _WARM if running else paint - random.uniform(12, 40)
    sill = _TYRES if running else paint + 10
    return CarTones(sill, paint - 20, paint, hood, _COLD_GLASS, _COLD_ROOF)


_PAINTS = (
    (226, 228, 228), (232, 232, 230), (204, 206, 206), (168, 170, 172), (120, 122, 124), (70, 70, 72),
    (38, 38, 40), (28, 28, 30), (124, 76, 40), (90, 52, 30), (44, 40, 168), (30, 30, 120), (70, 96, 60),
    (120, 150, 170), (48, 170, 216),
)  # fmt: skip
"""White, silver, grey and black for the most part, as on any road."""
_DARK_GLASS, _RUBBER = (52.0, 46.0, 40.0), (34.0, 34.0, 34.0)


def painted_car(random: np.random.Generator) -> CarTones:
    """Return a car by day: one paint all over, with dark glass."""
    paint = _colour(random, _PAINTS)
    glass = scaled(_DARK_GLASS, random.uniform(0.7, 1.6))
    return CarTones(_RUBBER, scaled(paint, 0.72), paint, scaled(paint, 0.97), glass, paint)


def _colour(
    random: np.random.Generator, colours: tuple[tuple[int, int, int], ...]
) -> tuple[float, float, float]:
    """Return one of some colours, in a light of its own."""
    return scaled(colours[random.integers(len(colours))], random.uniform(0.88, 1.1))


def tone_array(tone: Tone) -> npt.NDArray[np.float32]:
    """Return a tone as what broadcasts over a picture: () of a grey level, (3,) of a colour."""
    return np.asarray(tone, np.float32)
