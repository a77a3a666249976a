"""From settings to adapters: the one place where collaborators are built.

Belongs here: choosing and constructing stores, ledger, models, terrain and channels. Not here:
using them (``steps.py``) and reading the environment (``outwatch/settings.py``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from alerting.email import EmailChannel
from alerting.log import LogChannel
from alerting.webhook import WebhookChannel
from detection.contrast import LEAST_CONTRAST
from detection.ground import ErrorBudget, GroundLocator
from detection.incident_gate import JoinRules
from detection.incidents import join
from detection.rules import Thresholds
from detection.terrain import DemTerrain, Geoid
from detection.trips import TripThresholds
from ingest.feeds.mapping import TopicMapping
from ingest.sandbox import Limits
from outwatch import __version__
from outwatch.domain.calibrations import parse_calibrations
from outwatch.domain.errors import ConfigInvalid, ModelUnavailable
from outwatch.domain.outposts import parse_outposts
from outwatch.domain.ports import Channel, Detector, ObjectStore, SensorFeed, Terrain
from outwatch.domain.sensors import Registry, parse_sensors
from outwatch.domain.types import Camera, Modality, Outpost
from outwatch.settings import FeedSettings, GroundSettings, Settings, TopicSettings, load_settings
from storage.alert_book import AlertBook
from storage.baseline import BaselineBook
from storage.corrections import Corrections
from storage.database import connect, migrate
from storage.incidents import IncidentBook
from storage.lake import Lake
from storage.ledger import Ledger
from storage.local import LocalStore
from storage.models import ModelRegistry
from storage.pulled import PulledFiles
from storage.readings import ReadingInbox
from storage.s3 import S3Store
from storage.seals import SealBook
from storage.workers import worker_name

SOFTWARE = f"outwatch {__version__}"


def utc_now() -> datetime:
    """Return the present time, UTC-aware."""
    return datetime.now(UTC)


@dataclass
class Pipeline:
    """Everything a step may need; what a command does not use is never built, nor can it fail it."""

    settings: Settings
    ledger: Ledger
    alert_book: AlertBook
    pulled_files: PulledFiles
    inbox: ReadingInbox
    corrections: Corrections
    incident_book: IncidentBook
    baseline_book: BaselineBook
    seals: SealBook
    now: Callable[[], datetime] = utc_now
    _detectors: dict[Modality, Detector] = field(default_factory=dict)

    @cached_property
    def store(self) -> ObjectStore:
        """Return the object store."""
        return build_store(self.settings)

    @cached_property
    def lake(self) -> Lake:
        """Return the tables on the object store."""
        return Lake(self.store, software=SOFTWARE)

    @cached_property
    def models(self) -> ModelRegistry:
        """Return the registry of models, with the copies that this machine keeps."""
        return ModelRegistry(self.store, cache=self.settings.home_dir / "models", now=self.now)

    @cached_property
    def outposts(self) -> tuple[Outpost, ...]:
        """Return the watched places."""
        return load_outposts(self.settings.outposts)

    @cached_property
    def sensors(self) -> Registry:
        """Return the sensors that are known."""
        return load_sensors(self.settings.sensors.registry)

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Return the channels that are switched on."""
        return build_channels(self.settings)

    @cached_property
    def locator(self) -> GroundLocator:
        """Return the locator with its terrain and error budget."""
        return build_locator(self.settings)

    @cached_property
    def terrain(self) -> Terrain | None:
        """Return the heights of the ground for maps; None where no elevation model is set."""
        return self.locator.terrain

    @property
    def zone(self) -> ZoneInfo:
        """Return the zone of local times in telemetry and in messages."""
        return ZoneInfo(self.settings.ingest.time_zone)

    @property
    def limits(self) -> Limits:
        """Return what the confined decoder may use."""
        return decoder_limits(self.settings)

    @property
    def thresholds(self) -> Thresholds:
        """Return the rules' thresholds."""
        return Thresholds(**self.settings.rules.model_dump())

    @property
    def trip_thresholds(self) -> TripThresholds:
        """Return when trips of sensors are one happening."""
        sensors = self.settings.sensors
        return TripThresholds(sensors.max_gap, sensors.longest, sensors.agree_within)

    def feed(self, name: str) -> SensorFeed:
        """Return a feed of readings by its name.

        Raises:
            ConfigInvalid: it is not in the settings.
        """
        for feed in self.settings.sensors.feeds:
            if feed.name == name:
                return build_feed(feed)
        raise ConfigInvalid(f"feed {name!r} is not in the settings: put it back under [[sensors.feeds]]")

    @property
    def scratch(self) -> Path:
        """Return the folder for work in progress; the sweep clears what dead workers left."""
        folder = self.settings.home_dir / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def outpost(self, outpost_id: str) -> Outpost:
        """Return a watched place by its id.

        Raises:
            ConfigInvalid: it is no longer in the outposts file.
        """
        for outpost in self.outposts:
            if outpost.id == outpost_id:
                return outpost
        raise ConfigInvalid(f"outpost {outpost_id!r} is not in {self.settings.outposts}: put it back")

    def detector(self, modality: Modality) -> Detector:
        """Return the detector for what a camera sees, built at first use."""
        if modality not in self._detectors:
            promoted = self._promoted(modality)
            self._detectors[modality] = build_detector(self.settings, modality, promoted=promoted)
        return self._detectors[modality]

    def weights(self, modality: Modality) -> Path:
        """Return the weights of that detector: those set, else those promoted, else the shipped ones."""
        return weights_for(self.settings, modality, promoted=self._promoted(modality))

    def _promoted(self, modality: Modality) -> Path | None:
        """Return this machine's copy of the model that was promoted; None where settings name another."""
        if self.settings.weights(modality) is not None:
            return None
        model_id = self.models.promoted(modality)
        return None if model_id is None else self.models.fetch(model_id)


def decoder_limits(settings: Settings) -> Limits:
    """Return what one confined decoder may cost."""
    ingest = settings.ingest
    return Limits(
        max_pixels=ingest.max_pixels,
        memory_mb=ingest.decoder_memory_mb,
        cpu_s=ingest.decoder_cpu_s,
        silence_s=ingest.decoder_silence_s,
    )


def build_store(settings: Settings) -> ObjectStore:
    """Return the object store that ``store_url`` names.

    Raises:
        ConfigInvalid: the URL is neither ``file://…`` nor ``s3://bucket[/prefix]?endpoint=…``.
    """
    url = settings.resolved_store_url
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigInvalid(f"store_url {url!r} is no URL: {error}") from error
    if parts.scheme == "file" and parts.path:
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigInvalid(
            f"store_url {url!r}: expected file:///folder or s3://bucket?endpoint=http://host:port"
        )
    return s3_store(
        url,
        what=f"store_url {url!r}",
        access_key=settings.s3.access_key.get_secret_value(),
        secret_key=settings.s3.secret_key.get_secret_value(),
        region=settings.s3.region,
        timeout_s=settings.s3.timeout_s,
        create_bucket=True,
    )


def s3_store(
    url: str,
    *,
    what: str,
    access_key: str,
    secret_key: str,
    region: str,
    timeout_s: float,
    create_bucket: bool,
) -> S3Store:
    """Return the store behind ``s3://bucket[/prefix]?endpoint=…``, Amazon's where no endpoint is named.

    Raises:
        ConfigInvalid: the endpoint is none; the message starts with ``what``.
    """
    parts = urlsplit(url)
    host = urlsplit(parse_qs(parts.query).get("endpoint", ["https://s3.amazonaws.com"])[0])
    if host.scheme not in {"http", "https"} or not host.netloc:
        raise ConfigInvalid(f"{what}: endpoint must be http://host:port or https://host")
    return S3Store(
        endpoint=host.netloc,
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        secure=host.scheme == "https",
        timeout_s=timeout_s,
        create_bucket=create_bucket,
    )


def shipped_weights(modality: Modality) -> Path:
    """Return the folder of the model that comes with Outwatch for what a camera sees."""
    return Path(str(files("detection"))) / "weights" / f"{modality}_yolo11n"


def weights_for(settings: Settings, modality: Modality, *, promoted: Path | None = None) -> Path:
    """Return the weights for what a camera sees: those set, else those promoted, else the shipped ones."""
    return settings.weights(modality) or promoted or shipped_weights(modality)


def build_detector(settings: Settings, modality: Modality, *, promoted: Path | None = None) -> Detector:
    """Return the OpenVINO adapter for a folder of weights, the Ultralytics one for a file.

    Raises:
        ModelUnavailable: the weights or their runtime are not there; the message says what to do.
    """
    weights = weights_for(settings, modality, promoted=promoted)
    confidence = settings.detection.min_confidence
    if weights.is_dir():
        from detection.openvino import OpenVinoDetector

        return OpenVinoDetector(weights, min_confidence=confidence)
    from detection.ultralytics import UltralyticsDetector

    try:
        least_contrast = LEAST_CONTRAST if modality is Modality.THERMAL else None
        return UltralyticsDetector(weights, min_confidence=confidence, least_contrast=least_contrast)
    except ModelUnavailable as error:
        raise ModelUnavailable(
            f"no model for {modality} footage: {error}. Set OUTWATCH_DETECTION__{modality.upper()}_WEIGHTS "
            "to an OpenVINO folder, or to a .pt file with outwatch[ultralytics] installed; or clear it for "
            "the model that comes with Outwatch"
        ) from error


def load_outposts(path: Path | None) -> tuple[Outpost, ...]:
    """Return the watched places, none where no file is set.

    Raises:
        ConfigInvalid: the file cannot be read or a feature is wrong; the message names it.
    """
    if path is None:
        return ()
    return parse_outposts(_json_file(path, what="outposts file"), source=str(path))


def load_sensors(path: Path | None) -> Registry:
    """Return the registry of sensors, an empty one where no file is set.

    Raises:
        ConfigInvalid: the file cannot be read or a feature is wrong; the message names it.
    """
    if path is None:
        return Registry()
    return parse_sensors(_json_file(path, what="sensors file"), source=str(path))


def _json_file(path: Path, *, what: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{what} {path} cannot be read as JSON: {error}") from error


def build_feed(feed: FeedSettings) -> SensorFeed:
    """Return the adapter for one feed; nothing is connected yet.

    Raises:
        ConfigInvalid: it lacks what it needs; the message names it.
    """
    if feed.type == "mqtt":
        from ingest.feeds.mqtt import MqttFeed

        return MqttFeed(
            feed.name,
            host=feed.host,
            port=feed.port,
            client_id=feed.client_id or f"outwatch-{feed.name}",
            topics=[_mapping(topic, feed=feed.name) for topic in feed.topics],
            username=feed.username,
            password=feed.password.get_secret_value(),
            tls=feed.tls,
            ca_file=feed.ca_file,
            batch_max=feed.batch_max,
        )
    if feed.type == "sensorthings":
        from ingest.feeds.sensorthings import DatastreamMapping, SensorThingsFeed

        return SensorThingsFeed(
            feed.name,
            url=feed.url,
            datastreams={
                name: DatastreamMapping(**stream.model_dump()) for name, stream in feed.datastreams.items()
            },
            token=feed.token.get_secret_value(),
            overlap_s=feed.overlap_s,
            since=feed.since,
        )
    from ingest.feeds.filedrop import FileDropFeed

    return FileDropFeed(
        feed.name,
        folder=feed.folder,
        mapping=_mapping(feed.mapping, feed=feed.name),
        patterns=feed.patterns,
        settle_s=feed.settle_s,
        keep_in_place=feed.keep_in_place,
    )


def _mapping(topic: TopicSettings, *, feed: str) -> TopicMapping:
    try:
        return TopicMapping(**topic.model_dump())
    except ConfigInvalid as error:
        raise ConfigInvalid(f"feed {feed}: {error}") from error


def build_locator(settings: Settings) -> GroundLocator:
    """Return the locator with its terrain and error budget."""
    ground = settings.ground
    geoid = Geoid()
    above_ellipsoid = geoid if ground.dem_datum == "ellipsoid" else None
    terrain = None if ground.dem is None else DemTerrain(ground.dem, above_ellipsoid=above_ellipsoid)
    return GroundLocator(
        terrain, error_budget(ground), geoid=geoid, calibrations=load_calibrations(ground.calibrations)
    )


def error_budget(ground: GroundSettings) -> ErrorBudget:
    """Return what is not known of a pose."""
    return ErrorBudget(**ground.model_dump(exclude={"dem", "dem_datum", "calibrations"}))


def load_calibrations(path: Path | None) -> Mapping[str, Camera]:
    """Return the cameras that were calibrated, by name.

    Raises:
        ConfigInvalid: the file cannot be read, or says something impossible.
    """
    if path is None:
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"calibrations {path} cannot be read as TOML: {error}") from error
    return parse_calibrations(data, file=str(path))


def build_channels(settings: Settings) -> tuple[Channel, ...]:
    """Return the channels that are switched on, in the order in which settings name them.

    Raises:
        ConfigInvalid: a channel lacks what it needs.
    """
    alerts = settings.alerts
    built: list[Channel] = []
    for name in alerts.channels:
        if name == "log":
            built.append(LogChannel(settings.home_dir / "alerts.log.jsonl"))
        elif name == "webhook":
            built.append(
                WebhookChannel(
                    alerts.webhook_url,
                    secret=alerts.webhook_secret.get_secret_value(),
                    timeout_s=alerts.timeout_s,
                )
            )
        else:
            built.append(
                EmailChannel(
                    host=alerts.smtp_host,
                    port=alerts.smtp_port,
                    user=alerts.smtp_user,
                    password=alerts.smtp_password.get_secret_value(),
                    starttls=alerts.smtp_starttls,
                    sender=alerts.email_from,
                    recipients=alerts.email_to,
                    timeout_s=alerts.timeout_s,
                )
            )
    return tuple(built)


def join_rules(settings: Settings) -> JoinRules:
    """Return when events are one happening."""
    values = settings.incidents.model_dump()
    return JoinRules(**{name: value for name, value in values.items() if not name.startswith("baseline_")})


def build_incident_book(settings: Settings, engine: Engine) -> IncidentBook:
    """Return the book of incidents with the rule that joins them."""
    rules = join_rules(settings)
    return IncidentBook(
        engine,
        join=lambda accounts, rulings: join(accounts, rules=rules, rulings=rulings),
        longest=rules.longest,
        reach=rules.reach,
        now=utc_now,
    )


@contextmanager
def open_pipeline(settings: Settings | None = None) -> Iterator[Pipeline]:
    """Build a pipeline, bring its database to date, and close what it opened.

    Args:
        settings: read from the environment and ``outwatch.toml`` where not given.
    """
    settings = settings or load_settings()
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    engine = connect(settings.resolved_database_url)
    try:
        migrate(engine)
        worker = worker_name()
        ledger = Ledger(engine, worker=worker, lease=settings.lease, now=utc_now)
        yield Pipeline(
            settings=settings,
            ledger=ledger,
            alert_book=AlertBook(engine, worker=worker, lease=settings.lease, now=utc_now),
            pulled_files=PulledFiles(engine, now=utc_now),
            inbox=ReadingInbox(engine, ledger, window=settings.sensors.window),
            corrections=Corrections(engine, now=utc_now),
            incident_book=build_incident_book(settings, engine),
            baseline_book=BaselineBook(engine, now=utc_now),
            seals=SealBook(engine, now=utc_now),
        )
    finally:
        engine.dispose()
