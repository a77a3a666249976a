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
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from outwatch.domain.errors import ConfigInvalid

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
    landing_settle: timedelta = timedelta(minutes=10)
    """Files put straight into ``landing/`` count as whole when unchanged for so long."""

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
    """A ``.pt`` file or an OpenVINO folder; None is the model shipped with Outwatch."""
    rgb_weights: Path | None = None
    """None: the start weights in OUTWATCH_SAMPLES, else the official YOLO11n where it can be had."""
    sample_fps: float = Field(default=2.0, gt=0)
    """Frames looked at per second: people on foot move under 1 m between looks."""
    min_confidence: float = Field(default=0.25, gt=0, lt=1)
    """Ultralytics' default working point; recall in the model card is measured at it."""
    batch: int = Field(default=4, ge=1)


class GroundSettings(_Group):
    """The error budget of a pose, one standard deviation each, and the terrain."""

    dem: Path | None = None
    """A GeoTIFF of heights in metres above mean sea level; None is flat ground at take-off height."""
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
    samples: Path | None = None
    lease: timedelta = timedelta(minutes=10)
    """How long a worker owns a piece of work without renewing; it renews three times in that."""
    s3: S3Settings = S3Settings()
    ingest: IngestSettings = IngestSettings()
    detection: DetectionSettings = DetectionSettings()
    ground: GroundSettings = GroundSettings()
    rules: RuleSettings = RuleSettings()
    alerts: AlertSettings = AlertSettings()

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
    shown = known and not secret and isinstance(item["input"], str | int | float)
    return f"{'.'.join(path)}: {item['msg']}" + (f" (found {item['input']!r})" if shown else "")


def _leaves(model: type[BaseModel], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting: its groups, then its name."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from _leaves(group, *above, name)
        else:
            yield (*above, name)
