"""A courier's two ends: a station packs and sends or carries, headquarters takes in.

Belongs here: joining settings, packing, moving and taking in. Not here: how each is done
(``ingest/courier``, ``incoming.py``). Packing and moving need neither outposts nor a database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ingest.courier import usb
from ingest.courier.pack import Packed, pack_folder
from ingest.courier.package import Package
from ingest.courier.queue import Queue, Waiting
from ingest.courier.send import Progress, Sender, connect
from ingest.telemetry.sources import recognise
from outwatch.domain.errors import ConfigInvalid, PackageRefused
from outwatch.pipeline import incoming
from outwatch.pipeline.landing import parse_declared
from outwatch.pipeline.wiring import Pipeline, decoder_limits, utc_now
from outwatch.settings import Settings

__all__ = ["Progress", "Received", "Watcher", "pack", "receive", "send", "waiting", "write_to_stick"]

Watcher = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one folder of a stick."""

    folder: Path
    package_id: str | None
    counts: Mapping[str, int]
    """``incoming_landed``: clips, photos and logs that are new; ``incoming_known``: that were here before;
    ``incoming_abandoned``: files that are missing or changed, and have their reason in the ledger."""
    refused: tuple[tuple[str, str], ...] = ()
    """Path and reason of each file that could not be taken in."""
    reason: str = ""
    """Why nothing of the folder could be."""


def pack(
    settings: Settings,
    folder: Path,
    *,
    declared: Mapping[str, str],
    previews: bool = True,
    url: str = "",
    watch: Watcher = lambda _: None,
) -> Packed:
    """Return the package of a card, ready to go.

    Args:
        settings: where the station keeps its memory, and what it declares unless told otherwise.
        folder: the card, or a copy of it.
        declared: what the operator says; an empty text takes back what the settings say.
        previews: whether to look at each clip.
        url: where it is to go, remembered until it is confirmed; empty for a stick.
        watch: told of progress.

    Raises:
        PackageRefused: there is nothing to send.
        ConfigInvalid: a declaration is none that headquarters takes.
        UploadInterrupted: a file cannot be read.
    """
    told = {name: text for name, text in {**_usual(settings), **declared}.items() if text}
    parse_declared(json.dumps(told).encode(), source="options")
    queue = _queue(settings)
    return pack_folder(
        folder,
        queue=queue,
        declared=told,
        created_at=queue.begin(folder, declared=told, url=url, now=utc_now()) if url else utc_now(),
        is_telemetry=lambda head: recognise(head) is not None,
        preview_limits=decoder_limits(settings) if previews else None,
        watch=lambda name, done, total: watch(Progress(name, done, total, note="reading the card")),
    )


def send(
    settings: Settings,
    folder: Path,
    *,
    declared: Mapping[str, str],
    url: str,
    watch: Watcher = lambda _: None,
) -> Package:
    """Pack a card, send it, and return once the server has found every file right.

    Raises:
        PackageRefused: there is nothing to send, or the server will not take it.
        UploadInterrupted: there was no progress for ``courier.give_up_after``.
        AccessDenied: the server refuses the token.
        ConfigInvalid: an option or the URL is wrong.
    """
    courier = settings.courier
    url = url or courier.url
    if not url:
        raise ConfigInvalid(
            "where to? name the server with --to URL or OUTWATCH_COURIER__URL, or a stick with --usb"
        )
    with connect(url, token=courier.token.get_secret_value()) as http:
        packed = pack(settings, folder, declared=declared, url=url, watch=watch)
        Sender(http, watch=watch, give_up_after=courier.give_up_after).send(packed)
    _queue(settings).done(folder)
    return packed.package


def waiting(settings: Settings) -> list[Waiting]:
    """Return the uploads that this station began and headquarters has not confirmed."""
    return _queue(settings).waiting()


def write_to_stick(
    settings: Settings,
    folder: Path,
    *,
    declared: Mapping[str, str],
    stick: Path,
    watch: Watcher = lambda _: None,
) -> tuple[Package, Path]:
    """Pack a card and write it to a stick; return the package and its folder there.

    Raises:
        PackageRefused: there is nothing to write, or the stick does not keep what is written.
        NoRoom: the stick has too little space.
        UploadInterrupted: card or stick cannot be used.
    """
    # A preview is for those who wait for the clip: on a stick both come together.
    packed = pack(settings, folder, declared=declared, previews=False, watch=watch)
    told = lambda name, done, total: watch(Progress(name, done, total))  # noqa: E731
    return packed.package, usb.write_package(packed, stick, watch=told)


def receive(pipeline: Pipeline, folder: Path) -> Iterator[Received]:
    """Take in every package under a folder, one after the other; nothing is written there.

    Raises:
        UploadInterrupted: the stick cannot be read.
        NoRoom: there is no room for a package now.
    """
    for found in usb.find_packages(folder):
        if found.package is None:
            yield Received(found.folder, None, {}, reason=found.reason)
            continue
        try:
            taken = incoming.take_package(pipeline, found.package, blocks=partial(usb.read_blocks, found))
        except PackageRefused as error:
            yield Received(found.folder, found.package.id, {}, reason=str(error))
        else:
            yield Received(found.folder, found.package.id, taken.counts, refused=taken.refused)


def _usual(settings: Settings) -> dict[str, str]:
    courier = settings.courier
    return {
        "operator": courier.operator,
        "platform": courier.aircraft,
        "camera": courier.camera,
        "time_zone": courier.time_zone,
        "purpose": courier.purpose,
    }


def _queue(settings: Settings) -> Queue:
    return Queue(settings.home_dir / "courier")
