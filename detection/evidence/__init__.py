"""The pictures that go with an event: a still, an excerpt of its clip, a map, and what hides bystanders.

Belongs here: drawing, from values to bytes. Not here: where inputs come from and pieces go
(``outwatch/pipeline/evidence.py``), and what is an event (``detection/rules``). Nobody is identified.
"""

from detection.evidence.still import draw_still, facts_of, metre_in_px, title_of, wind_of

__all__ = ["draw_still", "facts_of", "metre_in_px", "title_of", "wind_of"]
