"""Decode the one picture of an untrusted photo. Only the confined child runs this.

Belongs here: what opens and decodes JPEG, PNG and TIFF, and how far their decoders can be believed. Not here:
video and the size of frames (``container.py``), and what cameras write beside the picture
(``telemetry/photo.py``).

What damage is noticed (FFmpeg 8.1): a cut file always; changed bytes within a JPEG nearly always, in a PNG
always, as it has checksums, and in a TIFF never, as that has none.
"""

from __future__ import annotations

from typing import Any, cast

import av

from ingest.confinement import RefusedError
from ingest.telemetry.exif import directories

PHOTO_FORMATS = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"II*\x00": "tiff_pipe",
    b"MM\x00*": "tiff_pipe",
}
"""What opens a still picture, by its first bytes. Each reads the one file it is given: ``image2``, which
takes patterns of file names, must never be among them."""
PHOTO_CODECS = frozenset({"mjpeg", "png", "tiff"})
_STRICT, _LENIENT = "explode", "crccheck+bitstream+buffer"
_ATTEMPTS = {
    "mjpeg": ((_STRICT, False), (_LENIENT, True)),
    "png": ((_STRICT, False),),
    "tiff": ((_LENIENT, False),),
}
"""How to decode, and whether that means damage. Half a JPEG shows half a scene, and half a PNG or TIFF
nothing. A strict TIFF decoder refuses every tag that it does not know, such as XMP."""
_COMPRESSION_TAG = 259
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773)
"""None, LZW, deflate by either number, PackBits. Of JPEG within TIFF FFmpeg makes a black picture without a
word, and others it lacks."""


def photo_format(head: bytes) -> str:
    """Return FFmpeg's name of what opens a photo.

    Raises:
        RefusedError: it does not begin as one.
    """
    found = next((form for magic, form in PHOTO_FORMATS.items() if head.startswith(magic)), None)
    if found is None:
        raise RefusedError("unsupported", "is not a JPEG, PNG or TIFF picture: hand in the original photo")
    return found


def decode_still(
    codec: str, packet: av.Packet[Any] | None, *, max_pixels: int
) -> tuple[av.VideoFrame, bool] | None:
    """Return a photo's picture and whether it is damaged, None where nothing can be decoded.

    Args:
        codec: one of ``PHOTO_CODECS``.
        packet: the first of the file; cameras append previews of other sizes, which are not asked for.
        max_pixels: largest width times height.

    Raises:
        RefusedError: a TIFF whose kind of compression is not read.
    """
    if packet is None:
        return None
    if codec == "tiff":  # all of it is one packet
        _check_compression(bytes(packet))
    for error_detection, damaged in _ATTEMPTS[codec]:
        context = cast("av.VideoCodecContext", av.CodecContext.create(codec, "r"))
        context.options = {"max_pixels": str(max_pixels), "err_detect": error_detection}
        try:
            frames = context.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            continue
        if frames:
            return frames[0], damaged
    return None


def _check_compression(data: bytes) -> None:
    kind = directories(data).get(_COMPRESSION_TAG, (1.0,))
    if kind[0] not in _TIFF_COMPRESSIONS:
        raise RefusedError(
            "unsupported",
            f"is a TIFF whose compression ({kind[0]}) is none of"
            f" {', '.join(map(str, _TIFF_COMPRESSIONS))}: save it as JPEG or as plain TIFF",
        )
