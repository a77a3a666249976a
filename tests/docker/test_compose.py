"""The compose file names only what exists, publishes on loopback only, and keeps no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from outwatch.settings import Settings, _leaves

DOCKER = Path(__file__).resolve().parents[2] / "docker"
TEXT = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EXAMPLE = dict(
    line.split("=", 1)
    for line in (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
OURS = ("migrate", "api-server", "scheduler", "dag-processor", "uploads", "cli")
ROLES = ("api-server", "scheduler", "dag-processor")
LASTING = (*ROLES, "uploads")


def test_the_services_are_there() -> None:
    """A store, a database, Airflow's parts with LocalExecutor, and the upload server."""
    assert set(SERVICES) == {"store", "postgres", *OURS}
    assert {SERVICES[role]["environment"]["AIRFLOW__CORE__EXECUTOR"] for role in ROLES} == {"LocalExecutor"}
    assert all(SERVICES[role]["command"][0] == role for role in ROLES)


def test_nothing_starts_before_what_it_needs() -> None:
    """Migration waits for healthy engines, the roles for the migration."""
    assert SERVICES["migrate"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "store": {"condition": "service_healthy"},
    }
    for role in LASTING:
        assert SERVICES[role]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_every_long_running_service_has_a_health_check_and_restarts() -> None:
    """The roles' own are those of the entry point."""
    for name in ("store", "postgres", *LASTING):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        assert SERVICES[name]["restart"] == "unless-stopped"
    for role in LASTING:
        assert SERVICES[role]["healthcheck"]["test"][1:] == ["entrypoint.sh", "health", role]


def test_ports_are_published_on_loopback_only() -> None:
    """From elsewhere one comes through a proxy with TLS."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_images_are_pinned_and_containers_gain_nothing(service: str) -> None:
    """No `latest`, and no way to become more than one starts as."""
    image = SERVICES[service]["image"]
    assert re.search(r":\S*\d", image)
    assert "latest" not in image
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]


def test_every_outwatch_variable_is_a_setting() -> None:
    """A misspelt one would be ignored in silence."""
    named = set(re.findall(r"\bOUTWATCH_[A-Z0-9_]+", TEXT + "\n".join(EXAMPLE)))
    assert named
    assert named - {f"OUTWATCH_{'__'.join(leaf)}".upper() for leaf in _leaves(Settings)} == set()


def test_defaults_are_values_that_settings_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a container with an untouched example file and folder is valid."""
    for name, value in resolved_environment(EXAMPLE).items():
        if name.startswith("OUTWATCH_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("OUTWATCH_CONFIG", str(DOCKER / "config.example" / "outwatch.toml"))
    settings = Settings()
    assert settings.outposts == Path("/etc/outwatch/outposts.geojson")
    assert settings.alerts.channels == ("log",)
    assert settings.alerts.smtp_port == 587
    assert settings.store_url == "s3://outwatch?endpoint=http://store:9000"


def test_every_variable_is_explained_and_every_secret_is_asked_for() -> None:
    """Each `${NAME}` is in the example; those without a default stop the start when empty."""
    used = set(re.findall(r"\$\{([A-Za-z0-9_]+)", TEXT))
    assert used == set(EXAMPLE)
    secrets = {
        name for name in used if re.search(r"PASSWORD|SECRET|KEY|TOKEN", name) and "OUTWATCH" not in name
    }
    assert secrets == set(re.findall(r"\$\{([A-Za-z0-9_]+):\?", TEXT))
    assert {EXAMPLE[name] for name in secrets} == {""}


def test_what_the_example_folder_suggests_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commented lines, taken out of their comments, are a feed and a source."""
    text = (DOCKER / "config.example" / "outwatch.toml").read_text(encoding="utf-8")
    _, _, suggested = text.partition("\n\n")
    config = tmp_path / "outwatch.toml"
    config.write_text(re.sub("(?m)^# ?", "", suggested))
    monkeypatch.setenv("OUTWATCH_CONFIG", str(config))
    settings = Settings()
    assert [feed.name for feed in settings.sensors.feeds] == ["broker"]
    assert [source.name for source in settings.pull.sources] == ["north-valley"]


def test_the_page_and_the_store_share_what_they_must() -> None:
    """Task logs are on one volume; the database's name is in the URLs and in the first-run script."""
    for role in ROLES:
        assert "airflow:/var/lib/airflow" in SERVICES[role]["volumes"]
        url = SERVICES[role]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        assert url.endswith("@postgres:5432/airflow")
    script = (DOCKER / "init-databases.sql").read_text()
    assert "CREATE DATABASE airflow;" in script
    volumes = yaml.safe_load(TEXT)["volumes"]
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in mounted if re.fullmatch(r"[a-z]+", name)} == set(volumes)


def resolved_environment(values: dict[str, str]) -> dict[str, str]:
    """Return the scheduler's environment with variables put in as compose does it."""

    def put_in(match: re.Match[str]) -> str:
        name, sign, default = match["name"], match["sign"], match["default"]
        return values.get(name) or (default if sign == ":-" else "")

    pattern = re.compile(r"\$\{(?P<name>\w+)(?:(?P<sign>:[-?])(?P<default>[^}]*))?\}")
    environment = SERVICES["scheduler"]["environment"]
    return {name: pattern.sub(put_in, str(value)) for name, value in environment.items()}
