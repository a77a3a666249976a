"""What all pictures of an event share: colours, type, words for lengths and directions.

Belongs here: what must look and read the same in still, excerpt and map. Not here: any picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from PIL import ImageFont

from outwatch.domain.types import Review

# Okabe and Ito's palette, told apart with every colour vision (Color Universal Design, 2008).
ORANGE, SKY, YELLOW = (230, 159, 0), (86, 180, 233), (240, 228, 66)
INK, GREY, PAPER, NIGHT = (245, 245, 245), (170, 176, 182), (24, 27, 31), (0, 0, 0)
REVIEWS = {
    Review.UNREVIEWED: ("UNREVIEWED", "A question for a person: please look."),
    Review.CONFIRMED: ("CONFIRMED", "A person looked and agreed."),
    Review.FALSE: ("FALSE", "A person looked and did not agree."),
}
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SMALLEST_FONT_PX = 12
_METRES_PER_KM = 1000
_WINDS = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")


def wind_of(bearing_deg: float) -> str:
    """Return the nearest of the sixteen compass points."""
    return _WINDS[round(bearing_deg / 22.5) % len(_WINDS)]


def length_words(metres: float) -> str:
    """Return a length as people say it."""
    return f"{metres:.0f} m" if metres < _METRES_PER_KM else f"{metres / _METRES_PER_KM:.1f} km"


def round_length(longest: float, *, steps: Iterable[int] = (1, 2, 5)) -> float:
    """Return the largest of ``steps`` times a power of ten that is not above ``longest``, in its unit."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in steps if step * power <= longest)


@cache
def font(size_px: int) -> Font:
    """Return the one typeface, which comes with Pillow, at a size."""
    return ImageFont.load_default(size_px)


def font_that_fits(text: str, width_px: float, *, largest_px: int) -> Font:
    """Return the largest font, down to the smallest that can be read, in which a line fits a width."""
    fonts = map(font, range(largest_px, _SMALLEST_FONT_PX, -1))
    fitting = (candidate for candidate in fonts if candidate.getlength(text) <= width_px)
    return next(fitting, font(_SMALLEST_FONT_PX))
