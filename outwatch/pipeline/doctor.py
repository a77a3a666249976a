"""Check what Outwatch stands on, and say in plain words what to fix.

It mends nothing that is wrong, but does what any first start does: it makes the home folder and the
bucket where they are missing, and brings the database to date. What it writes to try a store or a
disk it removes. Belongs here: one small function per thing checked. Not here: how checks are shown.
"""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

import numpy as np

from ingest.sandbox import isolation
from outwatch.domain.errors import ConfigInvalid, OutwatchError
from outwatch.domain.types import Modality
from outwatch.pipeline import wiring
from outwatch.pipeline.landing import parse_declared
from outwatch.pipeline.sources import build_source, is_camera
from outwatch.settings import Settings, load_settings
from storage.database import connect, migrate
from storage.probe import probe_store
from storage.s3 import S3Store

AMPLE_BYTES = 5_000_000_000
"""About an hour of 1080p drone footage (12 Mb/s), with room for its scratch copy."""
MAX_SKEW = timedelta(seconds=5)
"""A store whose clock differs by more makes 'captured after receipt' meaningless."""
BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""No machine that runs this version can truly have an earlier clock."""
_STA_UNSYNC = 0x0040
"""Status bit of adjtimex(2): the kernel clock is not synchronised."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, how it stands, and what to do about it."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Check settings first; the rest only where they can be read."""
    try:
        settings = load_settings()
    except OutwatchError as error:
        return [Check("settings", "failed", str(error), "correct the environment or outwatch.toml")]
    checks = [Check("settings", "ok", f"home {settings.home_dir}")]
    for name, fix, examiner in (
        ("disk", "make OUTWATCH_HOME a folder you can write, with room", _disk),
        ("store", "check OUTWATCH_STORE_URL, OUTWATCH_S3__ACCESS_KEY and __SECRET_KEY", _store),
        ("database", "check OUTWATCH_DATABASE_URL and that the server runs", _database),
        ("outposts", "set OUTWATCH_OUTPOSTS to a GeoJSON file of your places", _outposts),
        (
            "thermal model",
            "set OUTWATCH_DETECTION__THERMAL_WEIGHTS, or install Outwatch again",
            _thermal_model,
        ),
        ("rgb model", "install outwatch[ultralytics] and set OUTWATCH_DETECTION__RGB_WEIGHTS", _rgb_model),
        ("terrain", "set OUTWATCH_GROUND__DEM to a GeoTIFF of heights", _terrain),
        ("sensors", "correct OUTWATCH_SENSORS__REGISTRY and [[sensors.feeds]] (docs/sensors.md)", _sensors),
        ("sources", "correct [[pull.sources]] (docs/pull.md)", _sources),
        ("uploads", "set OUTWATCH_UPLOADS__TOKEN", _uploads),
        ("channels", "complete the settings of each channel in OUTWATCH_ALERTS__CHANNELS", _channels),
        ("decoder", "run on Linux with user namespaces to cut the decoder off the network", _decoder),
        ("clock", "switch on NTP (timedatectl set-ntp true)", _clock),
    ):
        checks += _guarded(name, fix, partial(examiner, settings))
    return checks


def _guarded(name: str, fix: str, examiner: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(examiner())
    except (OutwatchError, OSError) as error:
        return [Check(name, "failed", str(error), fix)]


def _disk(settings: Settings) -> Iterator[Check]:
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    probe = settings.home_dir / ".doctor"
    probe.write_bytes(b"ok")
    probe.unlink()
    free = shutil.disk_usage(settings.home_dir).free
    found = f"{free / 1e9:.0f} GB free at {settings.home_dir}"
    if free < settings.ingest.min_free_bytes:
        fix = f"free at least {AMPLE_BYTES / 1e9:.0f} GB"
        yield Check("disk", "failed", f"{found}, less than ingest.min_free_bytes: nothing is taken in", fix)
    elif free < AMPLE_BYTES:
        yield Check("disk", "warning", found, f"free at least {AMPLE_BYTES / 1e9:.0f} GB")
    else:
        yield Check("disk", "ok", found)


def _store(settings: Settings) -> Iterator[Check]:
    store = wiring.build_store(settings)
    twin = store.with_secret("outwatch-doctor-wrong-secret") if isinstance(store, S3Store) else None
    promises = probe_store(store, wrong_secret=twin)
    kept = {
        "conditional create": promises.conditional_create,
        "refuses a wrong secret": promises.rejects_wrong_secret,
        "ranged get": promises.ranged_get,
        "read after write": promises.read_after_write,
    }
    broken = [name for name, held in kept.items() if not held]
    essential = promises.ranged_get and promises.read_after_write
    found = f"{store.url}: keeps {', '.join(name for name, held in kept.items() if held)}"
    if broken:
        found += f"; does not keep {', '.join(broken)}"
    fix = "choose another store, or keep this one to a single writer" if broken else ""
    yield Check("store", "ok" if not broken else "warning" if essential else "failed", found, fix)


def _database(settings: Settings) -> Iterator[Check]:
    engine = connect(settings.resolved_database_url)
    try:
        migrate(engine)
        yield Check("database", "ok", engine.url.render_as_string(hide_password=True))
    finally:
        engine.dispose()


def _outposts(settings: Settings) -> Iterator[Check]:
    outposts = wiring.load_outposts(settings.outposts)
    if outposts:
        yield Check("outposts", "ok", f"{len(outposts)} places in {settings.outposts}")
    else:
        yield Check("outposts", "warning", "none: no event can be near a place", "set OUTWATCH_OUTPOSTS")


def _thermal_model(settings: Settings) -> Iterator[Check]:
    detector = wiring.build_detector(settings, Modality.THERMAL)
    boxes = detector.detect([np.zeros((512, 640, 3), np.uint8)])[0]
    if boxes:
        found = f"{detector.model_id} sees {len(boxes)} things in a black frame"
        yield Check("thermal model", "failed", found, "replace the weights")
    else:
        yield Check("thermal model", "ok", f"{detector.model_id} ({', '.join(detector.labels)})")


def _rgb_model(settings: Settings) -> Iterator[Check]:
    try:
        detector = wiring.build_detector(settings, Modality.RGB)
    except OutwatchError as error:
        yield Check("rgb model", "warning", str(error), "needed only for RGB footage")
    else:
        yield Check("rgb model", "ok", detector.model_id)


def _terrain(settings: Settings) -> Iterator[Check]:
    wiring.build_locator(settings)
    if settings.ground.dem is None:
        found = "ground is taken as flat: in hills places are off by tens of metres, more than they state"
        yield Check("terrain", "warning", found, "set OUTWATCH_GROUND__DEM, unless all is plain")
    else:
        yield Check("terrain", "ok", str(settings.ground.dem))


def _sensors(settings: Settings) -> Iterator[Check]:
    registry, feeds = wiring.load_sensors(settings.sensors.registry), settings.sensors.feeds
    for feed in feeds:
        wiring.build_feed(feed)
        if feed.type == "file" and not feed.folder.is_dir():
            raise ConfigInvalid(f"feed {feed.name}: {feed.folder} is no folder: make it, or mount the share")
    names = ", ".join(feed.name for feed in feeds) or "none"
    found = f"{len(registry.sensors)} sensors; feeds: {names}"
    if bool(registry.sensors) == bool(feeds):
        yield Check("sensors", "ok", found)
    elif feeds:
        yield Check("sensors", "warning", f"{found}: none is known to them", "set OUTWATCH_SENSORS__REGISTRY")
    else:
        yield Check("sensors", "warning", f"{found}: nothing is heard", "name a feed in [[sensors.feeds]]")


def _sources(settings: Settings) -> Iterator[Check]:
    for source in settings.pull.sources:
        parse_declared(json.dumps(source.declared).encode(), source=f"source {source.name}")
        if source.key_file is not None and not source.key_file.expanduser().is_file():
            raise ConfigInvalid(f"source {source.name}: key_file {source.key_file} is no file")
        if not is_camera(source):
            build_source(source).close()
    names = [f"{source.name}{'' if source.enabled else ' (off)'}" for source in settings.pull.sources]
    tried = "; `outwatch pull NAME` tries one" if names else ""
    yield Check("sources", "ok", f"{', '.join(names) or 'none'}{tried}")


def _uploads(settings: Settings) -> Iterator[Check]:
    has_token = bool(settings.uploads.token.get_secret_value())
    who = "whoever shows the token" if has_token else "this machine alone, since no token is set"
    yield Check("uploads", "ok", f"`outwatch serve` takes them from {who}")


def _channels(settings: Settings) -> Iterator[Check]:
    names = [channel.name for channel in wiring.build_channels(settings)]
    yield Check("channels", "ok", ", ".join(names) or "none")


def _decoder(settings: Settings) -> Iterator[Check]:
    held = isolation(wiring.decoder_limits(settings))
    state: Literal["ok", "warning"] = "ok" if any("network" in item for item in held) else "warning"
    fix = "" if state == "ok" else "user namespaces are off: the decoder is limited but could open a socket"
    yield Check("decoder", state, ", ".join(held), fix)


def _clock(settings: Settings) -> Iterator[Check]:
    now = wiring.utc_now()
    if now < BUILT_AT:
        yield Check(
            "clock", "failed", f"{now:%Y-%m-%d %H:%M} UTC is before this version was made", "set the clock"
        )
        return
    store = wiring.build_store(settings)
    key = ".probe/clock"
    store.put(key, b"clock")
    skew = abs(store.head(key).modified_at - wiring.utc_now())
    store.delete(key)
    if skew > MAX_SKEW:
        yield Check(
            "clock", "warning", f"differs from the store's by {skew.total_seconds():.0f} s", "switch on NTP"
        )
    elif not _kernel_clock_synchronised():
        yield Check("clock", "warning", f"{now:%Y-%m-%d %H:%M} UTC, not kept by NTP", "switch on NTP")
    else:
        yield Check("clock", "ok", f"{now:%Y-%m-%d %H:%M} UTC, kept by NTP")


def _kernel_clock_synchronised() -> bool:
    """Ask the kernel, by adjtimex(2) in read mode, whether something keeps its clock right."""
    buffer = (ctypes.c_long * 26)()  # struct timex: modes, offset, freq, maxerror, esterror, status, ...
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(buffer)) < 0:
        return False
    return not buffer[5] & _STA_UNSYNC
