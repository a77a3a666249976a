"""A single frame of a clip as a picture with rulers, for people who must read pixels off it.

Belongs here: fetching one frame and writing it. Not here: drawing (``detection/rulers.py``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from detection.rulers import with_rulers
from ingest.video import read_frames
from outwatch.domain.errors import ConfigInvalid, ObjectMissing
from outwatch.pipeline.detection import fetch
from outwatch.pipeline.wiring import Pipeline


def save_frame(pipeline: Pipeline, clip_id: str, offset_s: float, path: Path) -> float:
    """Write the frame that a clip shows at a moment, with rulers, and return the frame's own moment.

    Args:
        pipeline: with the ledger and the store.
        clip_id: a registered clip.
        offset_s: seconds from the clip's first frame.
        path: of the picture to write; its end says the format.

    Raises:
        ObjectMissing: the clip is unknown, or has no frame then.
        ConfigInvalid: the picture cannot be written there.
    """
    clip = pipeline.ledger.require_clip(clip_id)
    index = round(offset_s * clip.frame_rate_hz)
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        source = fetch(pipeline, clip, Path(folder))
        frame = next(iter(read_frames(source, indices={index}, limits=pipeline.limits)), None)
    if frame is None:
        raise ObjectMissing(
            f"clip {clip_id} has no frame at {offset_s:g} s: it lasts {clip.duration_s:.1f} s"
        )
    try:
        written = cv2.imwrite(str(path), with_rulers(frame.image))
    except cv2.error as error:
        raise ConfigInvalid(f"{path}: expected a picture's name, as in still.png") from error
    if not written:
        raise ConfigInvalid(f"{path} cannot be written: is its folder there?")
    return frame.offset_s
