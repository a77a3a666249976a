"""Every setting, with its default and its reason; the only reader of the environment.

A value comes from ``OUTWATCH_<FIELD>`` in the environment (``__`` steps into a group, as in
``OUTWATCH_RULES__GATHERING_MIN_PEOPLE``), else from ``outwatch.toml`` in the working directory or
at ``OUTWATCH_CONFIG``, else from the default below. A name that is no setting is an error wherever
it stands. Belongs here: names, defaults, checks. Not here: anything built from them
(``pipeline/wiring.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Modality, OutpostKind

_PREFIX = "OUTWATCH_"
_NO_SETTINGS = ("OUTWATCH_TEST_", "OUTWATCH_CRASH_ROUNDS", "OUTWATCH_GROUND_CASES")
"""Variables that start so steer the tests alone."""
_SECRET_WORDS = ("secret", "password", "key", "token", "url")
"""A field with one of these in its name may hold a secret: a URL carries its password or token."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class S3Settings(_Group):
    """How to reach an S3 store; the place itself is ``store_url``."""

    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    region: str = "us-east-1"
    timeout_s: float = Field(default=30.0, gt=0)


class IngestSettings(_Group):
    """Limits on what is taken in. Footage is hostile until a confined decoder has read it."""

    time_zone: str = "Asia/Karachi"
    """Zone of telemetry that writes local time without one."""
    max_pixels: int = Field(default=50_000_000, gt=0)
    """Largest frame: above 8K (33 Mpx), below what exhausts a small machine."""
    decoder_memory_mb: int = Field(default=2048, gt=0)
    decoder_cpu_s: int = Field(default=3600, gt=0)
    decoder_silence_s: float = Field(default=60.0, gt=0)
    """A decoder that gives nothing for so long is ended."""
    full_probe_mpx: float = Field(default=2000.0, ge=0)
    """A clip of more megapixels than this (half a minute of 1080p at 30 frames a second) is checked by all of
    its packets and some keyframes, every frame only where these show damage."""
    probe_keyframe_fps: float = Field(default=0.2, gt=0)
    """Keyframes a second decoded of such a clip. Detection decodes the others and counts damaged ones: to
    decode all of them twice would take a third of all the work."""
    landing_settle: timedelta = timedelta(minutes=10)
    """Files put straight into ``landing/`` count as whole when unchanged for so long."""

    min_free_bytes: int = Field(default=1_000_000_000, ge=0)
    """Nothing is taken, by any door, that would leave less room than this for the work on what came."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: "Asia" is a folder
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Karachi") from error
        return value


class DetectionSettings(_Group):
    """Which model looks at which footage, how often, and how sure it must be."""

    thermal_weights: Path | None = None
    """A ``.pt`` file or an OpenVINO folder; None is the registry's promoted model, else the shipped one."""
    rgb_weights: Path | None = None
    """The same for RGB footage."""
    sample_fps: float = Field(default=2.0, gt=0)
    """Frames looked at per second: people on foot move under 1 m between looks."""
    min_confidence: float = Field(default=0.25, gt=0, lt=1)
    """Ultralytics' default working point; recall in the model card is measured at it."""
    batch: int = Field(default=4, ge=1)
    passes: Literal["two", "one"] = "two"
    """Keyframes first and then the episodes around what they show, or every clip whole at ``sample_fps``."""
    keyframe_fps: float = Field(default=1.0, gt=0)
    """Keyframes looked at per second in the first pass, at most; cameras write one or two."""
    max_keyframe_gap_s: float = Field(default=2.0, gt=0)
    """Clips whose keyframes lie farther apart are looked at in one pass: what is there for as long as an
    event must last would be seen by none (``rules.vehicle_min_duration``)."""
    episode_margin_s: float = Field(default=4.0, gt=0)
    """How long before and after a first sight a clip is looked at closely; above ``max_keyframe_gap_s``."""
    episode_full_s: float = Field(default=15.0, gt=0)
    """What stays in view is looked at closely for so long, as a gathering must last; then keyframes do."""
    episode_reach_m: float = Field(default=200.0, ge=0)
    """Beyond a watch radius: as far as any rule looks (``rules.approach_within_m``) and a car drives in the
    margin."""
    episode_steady_m: float = Field(default=10.0, gt=0)
    """What stands no farther than this from where its kind stood before is nothing new: the shake of a fix,
    and a walk between two keyframes; a car at 36 km/h goes farther."""
    first_person_input_px: float = Field(default=6.0, gt=0)
    """How long a person should be in the model's input in the first pass. One box in fifteen looks is enough,
    as no event of people is shorter: one in five would be found 96 times of 100."""
    first_vehicle_input_px: float = Field(default=20.0, gt=0)
    """The same of vehicles, which may be seen by two keyframes only. Of the cars that a look at full size is
    sure of (0.4), 0.4 are found where they are 12 to 16 pixels long, 0.7 at 20 to 30, 0.9 above (60 thermal
    validation frames). Two keyframes then find nine of ten, and at 12 pixels six."""
    first_least_px: int = Field(default=320, ge=160)
    """Longest side to which frames are shrunk at most in the first pass: a look then costs a third of one at
    the model's own 640 pixels."""
    part_s: float = Field(default=600.0, gt=0)
    """Longer clips are split into parts of about this length, one task each."""
    min_person_px: float = Field(default=10.0, gt=0)
    """Where a person would be shorter in the frame, by the telemetry's height and angle, none is claimed:
    of people of 8 to 10 pixels the thermal model finds 0.4, and 0.7 at the very best."""
    min_vehicle_px: float = Field(default=12.0, gt=0)
    """The same of vehicles."""
    person_input_px: float = Field(default=20.0, gt=0)
    """How long a person should be in the model's input: smaller looks are cheaper and miss more."""
    longest_whole_px: int = Field(default=1920, ge=320)
    """A frame is looked at whole up to this, and beyond it in tiles (``detection/tiling.py``)."""
    max_tiles: int = Field(default=24, ge=1)
    """Most tiles a look: 24 cost about 0.8 s of one core."""


class GroundSettings(_Group):
    """The error budget of a pose, one standard deviation each, and the terrain."""

    dem: Path | None = None
    """A GeoTIFF of heights in metres; None is flat ground at take-off height."""
    dem_datum: Literal["egm96", "ellipsoid"] = "egm96"
    """What its heights are above: mean sea level (EGM96, as SRTM's are) or the WGS 84 ellipsoid."""
    calibrations: Path | None = None
    """A TOML file of calibrated cameras with their lenses (``docs/ground.md``)."""
    position_sigma_m: float = Field(default=2.5, ge=0)
    """Horizontal, each axis: single-frequency GNSS in the open (GPS SPS performance standard)."""
    height_sigma_m: float = Field(default=2.0, ge=0)
    """Barometric height over a flight."""
    heading_sigma_deg: float = Field(default=2.5, ge=0)
    """Magnetic compass plus gimbal yaw drift."""
    tilt_sigma_deg: float = Field(default=0.7, ge=0)
    """Gimbal pitch and roll."""
    min_depression_deg: float = Field(default=15.0, ge=5, lt=90)
    """Flatter rays give no point: one degree of pitch moves them too far (DESIGN, section 5)."""
    flat_ground_sigma_m: float = Field(default=3.0, ge=0)
    """Without a DEM the ground is taken as level: the relief of a valley floor within some hundred
    metres. In hills set a DEM."""
    flat_ground_slope: float = Field(default=0.02, ge=0, le=1)
    """... and by how much it may rise or fall a metre farther from the take-off point: 2 % is an alluvial
    plain. In the mountains nothing but a DEM helps (``docs/ground.md`` says how much is lost)."""


class RuleSettings(_Group):
    """When something is an event."""

    gathering_min_people: int = Field(default=8, ge=2)
    gathering_link_m: float = Field(default=5.0, gt=0)
    """People closer than this stand together: the far edge of social distance (Hall 1966: 3.7 m)
    plus the box error of a person seen from the air."""
    gathering_min_duration: timedelta = timedelta(seconds=15)
    vehicle_min_duration: timedelta = timedelta(seconds=2)
    """A vehicle seen in fewer looks than fit in this is not yet claimed."""
    gathering_min_confidence: float = Field(default=0.3, ge=0, le=1)
    """Mean confidence of the people seen, below which there is no event. Hardly above the detector's
    own: a false crowd must already agree on eight boxes in many looks."""
    vehicle_min_confidence: float = Field(default=0.4, ge=0, le=1)
    """The same of vehicles: one warm rock is enough for a false one, so more is asked of each."""
    max_gap: timedelta = timedelta(seconds=5)
    """A camera may look away, or a detector miss, for so long without ending an event."""
    merge_gap: timedelta = timedelta(minutes=2)
    """Events of one kind at one outpost in one clip that are closer in time are one event."""
    merge_distance_m: float = Field(default=60.0, gt=0)
    """... if they are also closer in space; about twice the fix error from 100 m height."""
    min_p_inside: float = Field(default=0.3, ge=0, le=1)
    """Probability that the place lies inside the watch radius, below which there is no event."""
    stopped_min_duration: timedelta = timedelta(seconds=30)
    """A vehicle stands for so long before it has stopped: longer than one gives way, or lets somebody out."""
    stopped_min_move_m: float = Field(default=20.0, gt=0)
    """It was seen to drive so far before: four car lengths, beyond what boxes and pose jitter make up."""
    approach_min_closing_m: float = Field(default=40.0, gt=0)
    """Comes nearer by at least so much, and by twice its error more where nothing around it stands still."""
    approach_min_speed_m_s: float = Field(default=1.0, gt=0)
    """... and so fast: a slow walk."""
    approach_min_duration: timedelta = timedelta(seconds=8)
    """... and for so long: a turn into a side road takes less."""
    approach_within_m: float = Field(default=150.0, gt=0)
    """... and to within this of the outpost; who stays farther off drives by."""
    convoy_min_vehicles: int = Field(default=3, ge=2)
    convoy_max_spacing_m: float = Field(default=60.0, gt=0)
    """Between neighbours; columns close up to 50 m on open roads (US Army FM 4-01.011, close column)."""
    convoy_min_move_m: float = Field(default=40.0, gt=0)
    """Each drives so far in file."""
    convoy_min_duration: timedelta = timedelta(seconds=8)
    """... for so long."""
    loitering_min_duration: timedelta = timedelta(minutes=2)
    """Twice what the PETS 2007 benchmark calls loitering: at an outpost visitors wait."""
    loitering_radius_m: float = Field(default=15.0, gt=0)
    """Dwells within this of where it began; a leg to or fro is longer."""
    loitering_min_passes: int = Field(default=3, ge=2)
    """Legs to and fro: there and back is an errand, a third is not."""
    loitering_beyond_m: float = Field(default=30.0, ge=0)
    """Who stands nearer to the outpost itself belongs to it: its guards, its visitors."""
    trend_min_change: int = Field(default=5, ge=1)
    """A gathering grows or disperses by at least so many people, beyond the noise of counting."""
    trend_min_duration: timedelta = timedelta(seconds=30)
    """... over so long."""
    night_kinds: tuple[OutpostKind, ...] = (OutpostKind.SCHOOL, OutpostKind.GOVERNMENT_BUILDING)
    """Places that are closed at night; the others are manned."""
    night_radius_m: float = Field(default=50.0, gt=0)
    """Activity at night counts this close to them, where the watch radius is not smaller still."""
    night_min_duration: timedelta = timedelta(minutes=1)
    """... for so long: who walks past at 1.3 m/s is within 50 m of a building for little longer at most."""
    night_sun_below_deg: float = Field(default=-6.0, ge=-18, le=0)
    """Elevation of the sun below which it is night: the end of civil twilight."""


class AlertSettings(_Group):
    """Who is told, how, and how often."""

    channels: tuple[Literal["log", "webhook", "email"], ...] = ("log",)
    cool_down: timedelta = timedelta(minutes=30)
    """A happening seen again within this, in capture time, adds to its alert and sends nothing."""
    longest: timedelta = timedelta(hours=6)
    """A happening still seen after so long is told again."""
    live_within: timedelta = timedelta(hours=1)
    """Footage older than this when alerted is one priority lower and says so first."""
    webhook_url: str = ""
    webhook_secret: SecretStr = SecretStr("")
    email_to: tuple[str, ...] = ()
    email_from: str = ""
    smtp_host: str = ""
    smtp_port: int = Field(default=587, gt=0, lt=65536)
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_starttls: bool = True
    timeout_s: float = Field(default=10.0, gt=0)
    retry_base: timedelta = timedelta(minutes=1)
    """First wait after a failed delivery; it doubles each time up to ``retry_cap``."""
    retry_cap: timedelta = timedelta(hours=1)


class IncidentSettings(_Group):
    """When events are one happening, and when a thing that always stands there is offered for the baseline.

    Extents and reach are radii that hold a thing's true place around where it was seen, with probability 0.9.
    """

    max_gap: timedelta = timedelta(minutes=15)
    """What is seen again at its place within this is the same happening: a change of batteries takes 10."""
    longest: timedelta = timedelta(hours=6)
    """A happening that is seen for longer is cut; as long as an alert stands (``alerts.longest``)."""
    clock_doubt_at_most: timedelta = timedelta(minutes=10)
    """More doubt in a clock than this does not widen times: what may be off by hours would join anything."""
    furthest_m: float = Field(default=250.0, gt=0)
    """Nothing further apart is one happening, however uncertain its place: the widest watch radius in use."""
    people_extent_m: float = Field(default=15.0, gt=0)
    """Of a crowd each flight sees another part: half of a group of 50 at three metres from one another."""
    vehicle_extent_m: float = Field(default=10.0, gt=0)
    """Two parked cars with the road between them."""
    moving_extent_m: float = Field(default=60.0, gt=0)
    """What drives by at 15 m/s is somewhere else in each of four seconds."""
    sensor_reach_m: float = Field(default=50.0, gt=0)
    """A seismic sensor feels steps at 50 m; infrared sees people at 12 to 30 m."""
    baseline_min_flights: int = Field(default=3, ge=2)
    baseline_min_days: int = Field(default=2, ge=1)
    """A car that is there on three flights of one evening is a visitor."""
    baseline_lookback: timedelta = timedelta(days=30)

    @field_validator("max_gap", "longest", "clock_doubt_at_most", "baseline_lookback")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError(f"must be longer than nothing, found {value}")
        return value


class UploadSettings(_Group):
    """What the upload server takes, and how long it waits for the rest."""

    token: SecretStr = SecretStr("")
    """Clients show it as ``Authorization: Bearer``; without one only this machine may upload."""
    max_file_bytes: int = Field(default=64_000_000_000, gt=0)
    """Longer than any recording of a small aircraft: cameras split theirs at 4 GB."""
    max_package_files: int = Field(default=5_000, gt=0)
    """A survey card holds some thousand photos."""
    max_packages: int = Field(default=200, gt=0)
    """Packages that may be on their way at once."""
    max_waiting_bytes: int = Field(default=1_000_000_000_000, gt=0)
    """Announced by all packages on their way, come or not."""
    keep_partial: timedelta = timedelta(days=7)
    """A package without progress for so long is given up and reported."""
    join_within: timedelta = timedelta(hours=1)
    """Telemetry sent ahead of its clip, in a ``group`` without a package, waits for so long."""
    idle_s: float = Field(default=60.0, gt=0)
    """A connection that gives nothing for so long is ended; what came is kept."""


class CourierSettings(_Group):
    """Where a station sends its footage, and what it declares unless told otherwise."""

    url: str = ""
    """Of the upload server, as in ``https://headquarters.example``."""
    token: SecretStr = SecretStr("")
    operator: str = ""
    aircraft: str = ""
    camera: str = ""
    time_zone: str = ""
    purpose: str = ""
    give_up_after: timedelta | None = None
    """Without progress for so long an upload ends with an error; None tries for ever."""


CAMERA_CLOCK_S = 2.0
"""What is recorded from a camera carries our own clock, late by what camera and link take."""
_HOST_NAMED = ("sftp", "ftp", "http", "https", "rtsp", "rtsps")


class PullSource(_Group):
    """One place that footage is pulled from, ``[[pull.sources]]`` in ``outwatch.toml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    """Lower-case letters, digits, ``-`` and ``_``: it names files and tasks."""
    url: str
    """``sftp://user@host:22/folder``, ``ftp://host/folder``, ``https://host/folder/``, ``file:///folder``,
    ``s3://bucket/prefix?endpoint=http://host:9000``, ``rtsp://host:554/stream``."""
    enabled: bool = True
    include: tuple[str, ...] = ()
    """Patterns of file names, without regard to case; none means footage, photos and telemetry."""
    user: str = ""
    """An S3 access key's id, where it is S3."""
    password: SecretStr = SecretStr("")
    """An S3 secret key, or the passphrase of ``key_file``, where it is one of these."""
    token: SecretStr = SecretStr("")
    """HTTP: sent as ``Authorization: Bearer``."""
    key_file: Path | None = None
    """SFTP: our private key."""
    known_host: str | None = None
    """SFTP: the server's public key as ``ssh-keyscan`` prints it, or its ``SHA256:…`` fingerprint."""
    insecure: bool = False
    """Trust an SFTP server that cannot be told from another, and send passwords unencrypted: only where
    the link itself is protected."""
    region: str = "us-east-1"
    settle: timedelta = timedelta(minutes=2)
    """A file counts as finished when unchanged for so long; above the pauses of a writer on a weak link."""
    segment_s: float = Field(default=60.0, gt=0, le=3600)
    """RTSP: what one run records. The runs are five minutes apart: 290 leaves few gaps."""
    camera: str | None = None
    platform: str | None = None
    time_zone: str | None = None
    mount_pitch_deg: float | None = None
    mount_heading_deg: float | None = None
    mount_roll_deg: float | None = None
    clock_uncertainty_s: float | None = None
    """Within how many seconds of UTC the time in the files' containers is, where that is known."""
    max_file_bytes: int = Field(default=64_000_000_000, gt=0)
    max_files_per_run: int = Field(default=200, gt=0)
    """More wait for the next run, so that one full card does not hold up the rest."""
    max_run: timedelta = timedelta(minutes=20)
    """A run stops listing and fetching after so long; the next one goes on where it stopped."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Without an answer for so long, a connection is given up."""

    @property
    def declared(self) -> dict[str, str]:
        """Return what is declared of all that comes from here."""
        names = ("camera", "platform", "time_zone", "mount_pitch_deg", "mount_heading_deg", "mount_roll_deg")
        told = {name: getattr(self, name) for name in (*names, "clock_uncertainty_s")}
        if told["clock_uncertainty_s"] is None and self.url.startswith(("rtsp:", "rtsps:")):
            told["clock_uncertainty_s"] = CAMERA_CLOCK_S
        return {name: str(value) for name, value in told.items() if value is not None}

    @model_validator(mode="after")
    def _reachable(self) -> PullSource:
        """Refuse, when settings are read, what could not work or would give a secret away."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"source {self.name}: url is none: {error}") from error
        if parts.scheme not in {*_HOST_NAMED, "s3", "file"}:
            raise ValueError(
                f"source {self.name}: url starts with {parts.scheme!r}, expected sftp, ftp, http, https, "
                "file, s3 or rtsp"
            )
        if parts.password is not None:
            raise ValueError(f"source {self.name}: url holds a password: put it in password")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError(f"source {self.name}: a folder's url is file:///folder, with three slashes")
        if parts.scheme != "file" and not parts.hostname:
            raise ValueError(f"source {self.name}: url names no host or bucket")
        if port == 0:
            raise ValueError(f"source {self.name}: url names port 0, expected 1 to 65535")
        if parts.scheme == "sftp":
            self._check_sftp(parts.username or self.user)
        secret = self.password.get_secret_value() or self.token.get_secret_value()
        if parts.scheme in {"ftp", "http"} and secret and not self.insecure:
            raise ValueError(
                f"source {self.name}: {parts.scheme} would send its password or token unencrypted: use sftp "
                "or https, or set insecure = true where the link is protected"
            )
        return self

    def _check_sftp(self, user: str) -> None:
        if not user:
            raise ValueError(f"source {self.name}: sftp needs a user, as in sftp://user@host/folder")
        if not self.password.get_secret_value() and self.key_file is None:
            raise ValueError(f"source {self.name}: sftp needs password or key_file")
        if self.known_host is None and not self.insecure:
            raise ValueError(
                f"source {self.name}: sftp needs known_host, the server's key (`ssh-keyscan -t ed25519 HOST` "
                "on a link you trust); insecure = true trusts whoever answers"
            )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else IngestSettings(time_zone=value).time_zone


class PullSettings(_Group):
    """Where footage is pulled from."""

    sources: tuple[PullSource, ...] = ()

    @field_validator("sources")
    @classmethod
    def _distinct(cls, value: tuple[PullSource, ...]) -> tuple[PullSource, ...]:
        names = [source.name for source in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]!r}: what was taken is remembered by name")
        return value


class FieldSettings(_Group):
    """What one field of a payload measures: its value times ``scale`` plus ``offset``, in ``unit``."""

    kind: str
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0


class TopicSettings(_Group):
    """How messages, or lines of files, become readings; ``ingest/feeds/mapping.py`` says what each means."""

    filter: str = "#"
    payload: Literal["plain", "sensorthings", "frigate", "onvif", "chirpstack"] = "plain"
    sensor: str | None = None
    kind: str | None = None
    unit: str | None = None
    value: str = "value"
    time: str | None = None
    source_id: str | None = None
    zone: str | None = None
    fields: dict[str, FieldSettings] = {}


class _Feed(_Group):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    """Lower-case letters, digits, ``-`` and ``_``: it names tasks, and what was taken is remembered by it."""


class MqttFeedSettings(_Feed):
    """An MQTT broker, which keeps what we have not taken in a session named by ``client_id``."""

    type: Literal["mqtt"]
    host: str
    port: int = Field(default=1883, gt=0, lt=65536)
    client_id: str = ""
    """Empty: ``outwatch-`` and the feed's name. One running Outwatch each, the same for ever."""
    username: str = ""
    password: SecretStr = SecretStr("")
    tls: bool = False
    ca_file: Path | None = None
    """A PEM file of whom to trust instead of the system's authorities; sets ``tls``."""
    batch_max: int = Field(default=1000, ge=1, le=30_000)
    topics: tuple[TopicSettings, ...]


class DatastreamSettings(_Group):
    """What a Datastream is here; what is left out the server says: its name, observed property, unit."""

    sensor: str | None = None
    kind: str | None = None
    unit: str | None = None


class SensorThingsFeedSettings(_Feed):
    """An OGC SensorThings service, asked for its Observations."""

    type: Literal["sensorthings"]
    url: str
    """Of the service with its version, as in ``https://host/FROST-Server/v1.1``."""
    token: SecretStr = SecretStr("")
    """Sent as ``Authorization: Bearer``."""
    datastreams: dict[str, DatastreamSettings] = {}
    """Which to read, by id or name; none reads all, each under its own name."""
    since: datetime | None = None
    """Where to begin the first time; None takes all that the server has."""
    overlap_s: float = Field(default=3600.0, ge=0)
    """How late a reading may be entered after a younger one and still be taken."""


class FileFeedSettings(_Feed):
    """A folder that CSV or JSON-lines files are dropped into."""

    type: Literal["file"]
    folder: Path
    patterns: tuple[str, ...] = ("*.csv", "*.jsonl", "*.ndjson")
    settle_s: float = Field(default=10.0, ge=0)
    """A file is whole when it has not changed for so long."""
    keep_in_place: bool = False
    """Leave files where they are, as on a read-only share, instead of moving them to ``done/``."""
    mapping: TopicSettings


FeedSettings = Annotated[
    MqttFeedSettings | SensorThingsFeedSettings | FileFeedSettings, Field(discriminator="type")
]


class SensorSettings(_Group):
    """Which sensors there are, by which feeds they report, and when their trips are an event."""

    registry: Path | None = None
    """A GeoJSON file of sensors (``docs/sensors.md``)."""
    feeds: tuple[FeedSettings, ...] = ()
    """``[[sensors.feeds]]`` in ``outwatch.toml``."""
    window: timedelta = timedelta(minutes=10)
    """Readings of so long a time lie in one file; whole minutes that divide a day. Choose it once: files that
    stand keep theirs."""
    future_tolerance: timedelta = timedelta(minutes=5)
    """A sensor's clock may be ahead of ours by so much: what cheap clocks drift in some months."""
    silence_after: float = Field(default=1.5, ge=1)
    """Times its expected interval after which a sensor is silent; above 2, one message may get lost."""
    max_gap: timedelta = timedelta(minutes=2)
    """Trips near one outpost that are no further apart are one event; passive infrared sensors hold back
    for up to a minute between two trips."""
    longest: timedelta = timedelta(hours=6)
    """An event that lasts longer is cut; as long as an alert stands (``alerts.longest``)."""
    agree_within: timedelta = timedelta(minutes=1)
    """Sensors that trip within this agree: a person on foot crosses 80 m meanwhile."""
    listen: timedelta = timedelta(seconds=40)
    """How long the DAG listens to each feed, once a minute."""

    @field_validator("window")
    @classmethod
    def _divides_a_day(cls, value: timedelta) -> timedelta:
        minute, day = timedelta(minutes=1), timedelta(days=1)
        if value < minute or value % minute or day % value:
            raise ValueError(f"{value} does not divide a day into windows of whole minutes, as 10 minutes do")
        return value

    @field_validator("future_tolerance", "max_gap", "longest", "agree_within", "listen")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError(f"must be longer than nothing, found {value}")
        return value

    @field_validator("feeds")
    @classmethod
    def _distinct(cls, value: tuple[FeedSettings, ...]) -> tuple[FeedSettings, ...]:
        names = [feed.name for feed in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two feeds are named {twice[0]!r}: where each stands is remembered by name")
        return value


class Settings(BaseSettings):
    """All of Outwatch's settings; from embedded to real engines is these alone."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # else a traceback shows what a misspelt secret was set to
    )

    config: Path | None = None
    """The settings file, from the environment only; it must exist where it is named."""
    home: Path = Path(".outwatch")
    store_url: str = ""
    database_url: SecretStr = SecretStr("")
    outposts: Path | None = None
    expected: Path | None = None
    """What is usual at the places by hour, and what is their own: a TOML or JSON file (docs/rules.md)."""
    samples: Path | None = None
    lease: timedelta = timedelta(minutes=10)
    """How long a worker owns a piece of work without renewing; it renews three times in that."""
    s3: S3Settings = S3Settings()
    ingest: IngestSettings = IngestSettings()
    detection: DetectionSettings = DetectionSettings()
    ground: GroundSettings = GroundSettings()
    rules: RuleSettings = RuleSettings()
    incidents: IncidentSettings = IncidentSettings()
    alerts: AlertSettings = AlertSettings()
    pull: PullSettings = PullSettings()
    sensors: SensorSettings = SensorSettings()
    uploads: UploadSettings = UploadSettings()
    courier: CourierSettings = CourierSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the one settings file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=_settings_file())
        return init_settings, env_settings, toml

    @property
    def home_dir(self) -> Path:
        """Return the folder of all embedded state, absolute."""
        return self.home.expanduser().absolute()

    def weights(self, modality: Modality) -> Path | None:
        """Return the weights that are set for what a camera sees, None where none are."""
        thermal = modality is Modality.THERMAL
        return self.detection.thermal_weights if thermal else self.detection.rgb_weights

    @property
    def resolved_store_url(self) -> str:
        """Return the object store's URL, the embedded default where none is set."""
        return self.store_url or (self.home_dir / "store").as_uri()

    @property
    def resolved_database_url(self) -> str:
        """Return the ledger's URL, with its secrets; the embedded default where none is set."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home_dir / 'outwatch.db'}"


def load_settings(**overrides: object) -> Settings:
    """Read the settings.

    Raises:
        ConfigInvalid: a setting is unknown or out of range, or the settings file cannot be read. The
            message names each one, and never shows what may be a secret.
    """
    _refuse_unknown(os.environ)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors(include_url=False))
        raise ConfigInvalid(f"settings: {problems}") from error
    except SettingsError as error:
        raise ConfigInvalid(f'environment: {error}; lists and groups are JSON, as in ["log"]') from error
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"settings file {_settings_file()} cannot be read: {error}") from error


def _settings_file() -> Path:
    """Return the settings file, which may be absent only where it is not named."""
    named = os.environ.get("OUTWATCH_CONFIG")
    if not named:
        return Path("outwatch.toml")
    path = Path(named).expanduser()
    if not path.is_file():
        raise ConfigInvalid(f"OUTWATCH_CONFIG={named}: no such file; correct the path or unset it")
    return path


def _refuse_unknown(names: Iterable[str]) -> None:
    """Raise ``ConfigInvalid`` where a variable of the environment looks like a setting and is none."""
    leaves = set(_leaves(Settings))
    known = {"__".join(leaf).upper() for leaf in leaves}
    groups = {leaf[0].upper() for leaf in leaves}
    problems = []
    for name in sorted(names):
        end = name.upper().removeprefix(_PREFIX)
        allowed = name.removeprefix(_PREFIX) in known | groups or name.startswith(_NO_SETTINGS)
        if name.upper().startswith(_PREFIX) and not allowed:
            near = " or ".join(_PREFIX + other for other in get_close_matches(end, sorted(known)))
            problems.append(f"{name} is no setting: {f'did you mean {near}?' if near else 'unset it'}")
    if problems:
        raise ConfigInvalid(f"environment: {'; '.join(problems)}")


def _problem(item: Mapping[str, Any]) -> str:
    """Return one of pydantic's findings in a line, with what was found only where that is no secret."""
    path = tuple(str(part) for part in item["loc"])
    known = not {path[:1], path[:2]}.isdisjoint(_leaves(Settings))
    secret = any(word in part for word in _SECRET_WORDS for part in path)
    # What stands under a name that is none may be a password, whose name was misspelt.
    shown = (
        known
        and not secret
        and item["type"] != "extra_forbidden"
        and isinstance(item["input"], str | int | float)
    )
    return f"{'.'.join(path)}: {item['msg']}" + (f" (found {item['input']!r})" if shown else "")


def _leaves(model: type[BaseModel], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting: its groups, then its name."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from _leaves(group, *above, name)
        else:
            yield (*above, name)
