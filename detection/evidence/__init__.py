"""The pictures that go with an event: a still, an excerpt of its clip, a map, and what hides bystanders.

Belongs here: drawing, from values to bytes. Not here: where inputs come from and pieces go
(``outwatch/pipeline/evidence.py``), and what is an event (``detection/rules``). Nobody is identified.
"""

from detection.evidence.blur import bystanders, hide
from detection.evidence.excerpt import EXCERPT_S, RATE_HZ, ExcerptWriter, Window, window_around
from detection.evidence.moments import Moments, scaled
from detection.evidence.place_map import draw_map
from detection.evidence.still import MAX_WIDTH_PX as MAX_STILL_PX
from detection.evidence.still import draw_still, facts_of, metre_in_px, title_of
from detection.evidence.style import wind_of

__all__ = [
    "EXCERPT_S",
    "MAX_STILL_PX",
    "RATE_HZ",
    "ExcerptWriter",
    "Moments",
    "Window",
    "bystanders",
    "draw_map",
    "draw_still",
    "facts_of",
    "hide",
    "metre_in_px",
    "scaled",
    "title_of",
    "wind_of",
    "window_around",
]
