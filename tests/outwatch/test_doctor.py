"""The doctor names what is wrong and what to do, and goes on to the next thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outwatch.pipeline import wiring
from outwatch.pipeline.doctor import Check, examine
from outwatch.settings import load_settings

NAMES = [
    "settings",
    "disk",
    "store",
    "database",
    "outposts",
    "thermal model",
    "rgb model",
    "terrain",
    "sensors",
    "sources",
    "uploads",
    "channels",
    "decoder",
    "clock",
]


@pytest.fixture(autouse=True)
def no_rgb_model(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name an empty folder as the optional model: its runtime takes seconds to load."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("OUTWATCH_DETECTION__RGB_WEIGHTS", str(empty))


@pytest.fixture
def no_thermal_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name an empty folder as the thermal model."""
    monkeypatch.setenv("OUTWATCH_DETECTION__THERMAL_WEIGHTS", str(tmp_path / "empty"))


def checks() -> dict[str, Check]:
    return {check.name: check for check in examine()}


def failed(found: dict[str, Check]) -> set[str]:
    """Return the names of the failed checks, but for the clock, which is this machine's own."""
    return {name for name, check in found.items() if check.state == "failed"} - {"clock"}


def test_embedded_defaults_are_sound() -> None:
    """Only what is optional is warned of, with what to do about it."""
    found = checks()
    assert list(found) == NAMES
    assert failed(found) == set()
    assert found["thermal model"].state == "ok"
    for name in ("outposts", "rgb model", "terrain"):
        assert found[name].state == "warning"
        assert found[name].fix


@pytest.mark.usefixtures("no_thermal_model")
def test_what_fails_is_named_with_its_fix_and_the_rest_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outposts that are no JSON, a model and a DEM that are not there, a webhook without an address."""
    outposts = tmp_path / "outposts.geojson"
    outposts.write_text('{"type": "FeatureCollection"')
    monkeypatch.setenv("OUTWATCH_OUTPOSTS", str(outposts))
    monkeypatch.setenv("OUTWATCH_GROUND__DEM", str(tmp_path / "none.tif"))
    monkeypatch.setenv("OUTWATCH_ALERTS__CHANNELS", '["webhook"]')
    found = checks()
    assert list(found) == NAMES
    assert failed(found) == {"outposts", "thermal model", "terrain", "channels"}
    assert str(outposts) in found["outposts"].found
    assert found["outposts"].fix == "set OUTWATCH_OUTPOSTS to a GeoJSON file of your places"
    assert "OUTWATCH_DETECTION__THERMAL_WEIGHTS" in found["thermal model"].fix
    assert "OUTWATCH_GROUND__DEM" in found["terrain"].fix
    assert "OUTWATCH_ALERTS__CHANNELS" in found["channels"].fix


@pytest.mark.usefixtures("no_thermal_model")
def test_home_that_cannot_be_made_fails_what_lies_in_it(home: Path) -> None:
    """A file stands where the folder should be."""
    home.write_text("not a folder")
    assert {"disk", "store", "database"} <= failed(checks())


def test_wrong_settings_are_the_only_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can be checked without them, and no secret is shown."""
    monkeypatch.setenv("OUTWATCH_S3__SECRETKEY", "topsecret")
    (check,) = examine()
    assert (check.name, check.state) == ("settings", "failed")
    assert "OUTWATCH_S3__SECRET_KEY" in check.found
    assert "topsecret" not in check.found


@pytest.mark.usefixtures("no_thermal_model")
def test_nothing_is_left_in_the_store() -> None:
    """What the doctor writes to try a store, it removes."""
    examine()
    assert list(wiring.build_store(load_settings()).list("")) == []


@pytest.mark.usefixtures("no_thermal_model")
def test_feeds_and_sources_that_cannot_work_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping that says nothing, a key that is not there; nothing is asked of any server."""
    feed = {"type": "file", "name": "courier", "folder": str(tmp_path), "mapping": {}}
    source = {"name": "valley", "url": "sftp://a@host/b", "key_file": "/none", "known_host": "SHA256:x"}
    monkeypatch.setenv("OUTWATCH_SENSORS__FEEDS", json.dumps([feed]))
    monkeypatch.setenv("OUTWATCH_PULL__SOURCES", json.dumps([source]))
    found = checks()
    assert {"sensors", "sources"} <= failed(found)
    assert "feed courier: mapping of '#': a plain payload" in found["sensors"].found
    assert "source valley: key_file /none" in found["sources"].found


@pytest.mark.usefixtures("no_thermal_model")
def test_feeds_without_a_registry_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading would be of an unknown sensor."""
    mapping = {"sensor": "{sensor}", "kind": "{kind}"}
    feed = {"type": "file", "name": "courier", "folder": str(tmp_path), "mapping": mapping}
    monkeypatch.setenv("OUTWATCH_SENSORS__FEEDS", json.dumps([feed]))
    check = checks()["sensors"]
    assert (check.state, check.fix) == ("warning", "set OUTWATCH_SENSORS__REGISTRY")


@pytest.mark.usefixtures("no_thermal_model")
def test_a_disk_on_which_nothing_is_taken_in_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of the doors themselves."""
    monkeypatch.setenv("OUTWATCH_INGEST__MIN_FREE_BYTES", str(10**18))
    check = checks()["disk"]
    assert check.state == "failed"
    assert "less than ingest.min_free_bytes: nothing is taken in" in check.found
