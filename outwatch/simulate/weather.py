"""What weather and a poor sensor do to a picture: blur, lost contrast, haze with distance, grain.

Belongs here: changes of a finished frame, for footage that is worse than a clear night's. Not here: what
the sensor makes of a clear scene (``sensors.py``) and anything that the truth depends on: people in haze
are as true as before.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from outwatch.domain.types import Image

_CHECKED = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, config=_CHECKED)
class Weather:
    """How far a picture is from a clear one; the defaults change nothing."""

    blur_px: Annotated[float, Field(ge=0, le=10)] = 0.0
    """One standard deviation: a wet lens, or a sensor out of focus in the cold."""
    contrast: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the contrast that is left: warm ground after a hot day, a lens without a hood."""
    haze: Share = 0.0
    """Share of the contrast that mist takes from the farthest row of the picture; the nearest keeps its."""
    grain: Annotated[float, Field(ge=0, le=60)] = 0.0
    """One standard deviation of noise added to each pixel, in grey levels."""

    @property
    def clear(self) -> bool:
        """Whether nothing is changed."""
        return self == Weather()

    def apply(self, image: Image, *, seed: int, index: int) -> Image:
        """Return a frame (height, width, 3) as it looks in this weather, the same for the same numbers.

        Args:
            image: as in clear weather.
            seed: of the flight.
            index: of the frame.
        """
        if self.clear:
            return image
        levels = image.astype(np.float32)
        if self.blur_px:
            levels = np.asarray(cv2.GaussianBlur(levels, (0, 0), self.blur_px), np.float32)
        mean = levels.mean()
        kept = self.contrast * (1 - self.haze * np.linspace(1, 0, len(levels), dtype=np.float32))
        levels = mean + (levels - mean) * kept[:, None, None]
        if self.grain:
            random = np.random.default_rng([seed, 9, index])
            grey = random.standard_normal(levels.shape[:2], dtype=np.float32)
            levels += self.grain * grey[:, :, None]
        return np.asarray(np.clip(levels, 0, 255), np.uint8)


WEATHERS = {
    "clear": Weather(),
    "soft": Weather(blur_px=1.0),
    "flat": Weather(contrast=0.65),
    "hazy": Weather(contrast=0.9, haze=0.4),
    "grainy": Weather(grain=6.0),
}
"""Those a suite draws from: each takes about as much as an operator would still fly in. A person of 100 grey
levels above the ground keeps 54 to 65 of them; grain is four times that of the clear sensor."""
