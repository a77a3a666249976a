"""How sure a figure is: intervals by resampling, and by counting.

Belongs here: the statistics. Not here: what is measured.

Frames of one flight resemble each other, so images are drawn in blocks of consecutive frames of a
flight (the moving-block idea of Künsch 1989): drawing single frames would make intervals too narrow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
"""Share of repetitions whose interval holds the true figure."""
RESAMPLES = 200
"""Enough to place the 2.5 % and the 97.5 % point of a figure to a tenth of the interval's width."""
LEAST_BLOCKS = 8
"""Fewer blocks cannot tell how much figures differ between them: no interval is then given."""
MAX_STEP = 100
"""Frames of one flight whose numbers lie farther apart than this are other blocks: at 30 fps, 3 s."""
_NUMBERED = re.compile(r"(.*?)(\d+)$")
_Z = 1.959964
"""Of the standard normal distribution at ``LEVEL``, two-sided."""

Counts = npt.NDArray[np.intp]


def blocks_of(names: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the block that each image belongs to, (n,), numbered from 0.

    Args:
        names: of the images, in order, without their suffixes. A name is a flight and a frame number; one
            that ends in no number is a block of its own.
    """
    blocks: list[int] = []
    flight, number = None, 0
    for name in names:
        found = _NUMBERED.match(name)
        if found is None:
            flight = None
            blocks.append(blocks[-1] + 1 if blocks else 0)
            continue
        here, frame = found[1], int(found[2])
        together = here == flight and 0 <= frame - number <= MAX_STEP
        blocks.append((blocks[-1] + (not together)) if blocks else 0)
        flight, number = here, frame
    return np.array(blocks, dtype=np.intp)


def draws(blocks: Counts, *, resamples: int, seed: int) -> list[Counts]:
    """Return how often each image comes, (n,), for each time that as many blocks are drawn as there are.

    Nothing is drawn of fewer blocks than ``LEAST_BLOCKS``.
    """
    count = int(blocks.max(initial=-1)) + 1
    if count < LEAST_BLOCKS:
        return []
    random = np.random.default_rng(seed)
    drawn = (random.integers(0, count, count) for _ in range(resamples))
    return [np.bincount(one, minlength=count)[blocks] for one in drawn]


def interval(values: Sequence[float]) -> list[float] | None:
    """Return the percentile interval of resampled figures, None where they cannot be said."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [round(float(low), 4), round(float(high), 4)]


def share_interval(hits: int, of: int) -> list[float] | None:
    """Return Wilson's interval of a share (Wilson 1927), which holds also where all or none hit.

    Independent trials are taken for granted, as events of different flights are.
    """
    if of == 0:
        return None
    share = hits / of
    middle = share + _Z**2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    scale = 1 + _Z**2 / of
    return [round(max(0.0, (middle - half) / scale), 4), round(min(1.0, (middle + half) / scale), 4)]
