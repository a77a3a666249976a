"""Settings come from one place each, wrong ones are named, and no secret is ever shown."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.pipeline import wiring
from outwatch.settings import Settings, load_settings

pytestmark = pytest.mark.usefixtures("home")
SECRET = "topsecret"


def refusal(**overrides: object) -> str:
    """Return all that a person or a log may see of why the settings are refused."""
    with pytest.raises(ConfigInvalid) as caught:
        load_settings(**overrides)
    return "".join(traceback.format_exception(caught.value))


def write_toml(text: str) -> None:
    Path("outwatch.toml").write_text(text, encoding="utf-8")


def test_environment_wins_over_file_and_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting alone; an argument of the caller wins over all."""
    write_toml("[rules]\ngathering_min_people = 5\nmerge_distance_m = 30\n")
    monkeypatch.setenv("OUTWATCH_RULES__GATHERING_MIN_PEOPLE", "6")
    settings = load_settings(home=Path("elsewhere"))
    assert settings.home == Path("elsewhere")
    assert settings.rules.gathering_min_people == 6
    assert settings.rules.merge_distance_m == 30
    assert settings.rules.max_gap == timedelta(seconds=5)


def test_the_settings_file_may_be_absent_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that names no file is a mistake; an empty name is none at all."""
    assert load_settings().samples is None
    named = tmp_path / "other.toml"
    monkeypatch.setenv("OUTWATCH_CONFIG", str(named))
    assert f"OUTWATCH_CONFIG={named}: no such file" in refusal()
    named.write_text('samples = "/samples"\n')
    assert load_settings().samples == Path("/samples")
    monkeypatch.setenv("OUTWATCH_CONFIG", "")
    assert load_settings().samples is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OUTWATCH_OUTPOST", "OUTWATCH_OUTPOSTS"),
        ("OUTWATCH_S3__SECRETKEY", "OUTWATCH_S3__SECRET_KEY"),
        ("OUTWATCH_RULES__X", "OUTWATCH_RULES__"),
        ("OUTWATCH_SMTP_PASSWORD", "OUTWATCH_ALERTS__SMTP_PASSWORD"),
        ("outwatch_outposts", "OUTWATCH_OUTPOSTS"),
        ("OUTWATCH_QQQQ", "unset it"),
    ],
)
def test_unknown_variable_is_refused(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with what it may have meant, and not with its value."""
    monkeypatch.setenv(name, SECRET)
    shown = refusal()
    assert f"{name} is no setting" in shown
    assert meant in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "name", ["OUTWATCH_TEST_POSTGRES_URL", "OUTWATCH_CRASH_ROUNDS", "OUTWATCH_GROUND_CASES"]
)
def test_variables_of_the_tests_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may stand beside the settings."""
    monkeypatch.setenv(name, "1")
    assert load_settings().outposts is None


def test_a_whole_group_can_be_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable for the group, and one for a field of it, which wins."""
    monkeypatch.setenv("OUTWATCH_ALERTS", '{"channels": ["email"], "smtp_port": 25}')
    monkeypatch.setenv("OUTWATCH_ALERTS__SMTP_PORT", "2525")
    alerts = load_settings().alerts
    assert alerts.channels == ("email",)
    assert alerts.smtp_port == 2525


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        (f'[s3]\nsecretkey = "{SECRET}"\n', "s3.secretkey"),
        (f'[alert]\npassword = "{SECRET}"\n', "alert"),
        (f's3 = "{SECRET}"\n', "s3"),
        (f's3 = ["{SECRET}"]\n', "s3"),
        (f'[s3]\nsecret_key = ["{SECRET}"]\n', "s3.secret_key"),
        (f'[database_url]\npassword = "{SECRET}"\n', "database_url"),
        (f'[samples]\npassword = "{SECRET}"\n', "samples"),
        (f'home = "{SECRET}\n', "outwatch.toml"),
        (f'[[sensors.feeds]]\ntype = "mqtt"\npasswrd = "{SECRET}"\n', "sensors.feeds.0.mqtt.passwrd"),
        (f'[[sensors.feeds]]\ntype = "sensorthings"\nkey = "{SECRET}"\n', "sensors.feeds.0.sensorthings.key"),
    ],
)
def test_wrong_file_is_refused_without_its_secrets(toml: str, named: str) -> None:
    """Whatever stands at the wrong place, the message and its traceback name the place alone."""
    write_toml(toml)
    shown = refusal()
    assert named in shown
    assert SECRET not in shown


def test_wrong_json_is_refused_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list or a group that is no JSON may hold a secret."""
    monkeypatch.setenv("OUTWATCH_ALERTS", f'{{"webhook_secret": "{SECRET}')
    shown = refusal()
    assert "alerts" in shown
    assert "JSON" in shown
    assert SECRET not in shown


def test_every_wrong_value_is_named_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one message, so that they can be mended at once."""
    monkeypatch.setenv("OUTWATCH_ALERTS__SMTP_PORT", "99999")
    monkeypatch.setenv("OUTWATCH_ALERTS__CHANNELS", '["log", "fax"]')
    shown = refusal()
    assert "alerts.smtp_port" in shown
    assert "(found '99999')" in shown
    assert "alerts.channels.1" in shown
    assert "(found 'fax')" in shown


def test_a_number_for_a_secret_is_not_shown() -> None:
    """A field that holds a secret is named without what was found."""
    shown = refusal(s3={"secret_key": 271828182})
    assert "s3.secret_key" in shown
    assert "271828182" not in shown


@pytest.mark.parametrize("zone", ["Asia", "Mars/Base", "../etc/passwd", ""])
def test_time_zone_must_exist(zone: str) -> None:
    """A folder of the zone database is no zone either."""
    assert "is not an IANA time zone such as Asia/Karachi" in refusal(ingest={"time_zone": zone})


def test_no_secret_shows_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings may be logged whole."""
    monkeypatch.setenv("OUTWATCH_DATABASE_URL", f"postgresql+psycopg://outwatch:{SECRET}@db/outwatch")
    for name in ("S3__ACCESS_KEY", "S3__SECRET_KEY", "ALERTS__WEBHOOK_SECRET", "ALERTS__SMTP_PASSWORD"):
        monkeypatch.setenv(f"OUTWATCH_{name}", SECRET)
    settings = load_settings()
    assert SECRET in settings.resolved_database_url
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize("name", ["plain", "two words", "a#b", "a?b", "100%25", "چوکی"])
def test_the_embedded_store_lies_in_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    """The folder's name survives the way through the store's URL."""
    settings = load_settings(home=tmp_path / name)
    store = wiring.build_store(settings)
    store.put("key", b"data")
    assert (tmp_path / name / "store" / "key").read_bytes() == b"data"


def test_settings_cannot_be_changed() -> None:
    """What a worker started with is what it works with."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().home = Path("elsewhere")
