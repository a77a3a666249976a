"""The registry of models: whole or not there, checked when fetched, promoted with a history."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outwatch.domain.errors import KeyInvalid, ModelUnavailable, ObjectExists
from outwatch.domain.types import Modality
from storage import keys
from storage.local import LocalStore
from storage.models import ModelRegistry

ONE, OTHER = "night-0123456789ab", "night-ba9876543210"
NOW = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Return a store in a folder."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def registry(store: LocalStore, tmp_path: Path) -> ModelRegistry:
    """Return a registry whose clock goes on by a minute with each look."""
    minutes = iter(range(1000))
    return ModelRegistry(store, cache=tmp_path / "cache", now=lambda: NOW + timedelta(minutes=next(minutes)))


def folder(path: Path, weights: bytes = b"weights") -> Path:
    """Return a model's folder."""
    path.mkdir()
    (path / "model.bin").write_bytes(weights)
    (path / "model.json").write_text("{}")
    (path / "source.pt").write_bytes(b"a pickle")
    return path


def test_an_added_model_is_listed_and_fetched_without_its_source(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    """What runs a model comes to this machine, the pickle that it was made of stays in the store."""
    registry.add(folder(tmp_path / "new"), model_id=ONE, modality=Modality.THERMAL, by="amina")
    model = next(registry.models())
    assert (ONE, Modality.THERMAL, "amina", NOW) == (model.id, model.modality, model.added_by, model.added_at)
    fetched = registry.fetch(ONE)
    assert ["model.bin", "model.json"] == sorted(path.name for path in fetched.iterdir())
    assert (fetched / "model.bin").read_bytes() == b"weights"


def test_adding_the_same_again_changes_nothing_and_other_files_are_refused(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    """An id stands for one set of files for ever."""
    first = registry.add(folder(tmp_path / "new"), model_id=ONE, modality=Modality.THERMAL, by="amina")
    assert first == registry.add(tmp_path / "new", model_id=ONE, modality=Modality.THERMAL, by="bilal")
    with pytest.raises(ObjectExists, match="another name"):
        registry.add(folder(tmp_path / "b", b"else"), model_id=ONE, modality=Modality.THERMAL, by="bilal")


def test_a_model_without_a_manifest_is_not_there(
    registry: ModelRegistry, store: LocalStore, tmp_path: Path
) -> None:
    """A worker killed while it stores a model leaves nothing that is taken for one."""
    store.put(keys.model(ONE, "model.bin"), b"weights")
    assert [] == list(registry.models())
    with pytest.raises(ModelUnavailable, match="outwatch models list"):
        registry.fetch(ONE)


def test_a_damaged_copy_is_fetched_anew_and_a_damaged_object_refused(
    registry: ModelRegistry, store: LocalStore, tmp_path: Path
) -> None:
    """Nothing is run whose hash is not the one that was stored."""
    registry.add(folder(tmp_path / "new"), model_id=ONE, modality=Modality.THERMAL, by="amina")
    copy = registry.fetch(ONE) / "model.bin"
    copy.write_bytes(b"half")
    assert (registry.fetch(ONE) / "model.bin").read_bytes() == b"weights"
    store.put(keys.model(ONE, "model.bin"), b"swapped")
    copy.write_bytes(b"half")
    with pytest.raises(ModelUnavailable, match=r"model\.bin .* is not the file that was stored"):
        registry.fetch(ONE)
    assert [ONE] == [path.name for path in (tmp_path / "cache").iterdir()]


def test_promotions_keep_their_history_and_are_taken_back_by_another(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    """Who promoted what, when and in place of what is never lost."""
    for name, weights in ((ONE, b"1"), (OTHER, b"2")):
        registry.add(folder(tmp_path / name, weights), model_id=name, modality=Modality.THERMAL, by="amina")
    assert registry.promoted(Modality.THERMAL) is None
    for chosen, by in ((ONE, "amina"), (OTHER, "bilal"), (None, "amina")):
        registry.promote(chosen, modality=Modality.THERMAL, by=by)
    assert registry.promoted(Modality.THERMAL) is None
    history = registry.promotions(Modality.THERMAL)
    assert [(ONE, None, "amina"), (OTHER, ONE, "bilal"), (None, OTHER, "amina")] == [
        (step.model_id, step.previous_id, step.by) for step in history
    ]
    assert history == sorted(history, key=lambda step: step.at)
    assert [] == registry.promotions(Modality.RGB)


def test_promoting_what_stands_adds_nothing(registry: ModelRegistry, tmp_path: Path) -> None:
    """A command run twice is one promotion."""
    registry.add(folder(tmp_path / "new"), model_id=ONE, modality=Modality.RGB, by="amina")
    first = registry.promote(ONE, modality=Modality.RGB, by="amina")
    assert first == registry.promote(ONE, modality=Modality.RGB, by="bilal")
    assert [first] == registry.promotions(Modality.RGB)


def test_a_model_is_promoted_only_for_what_it_sees(registry: ModelRegistry, tmp_path: Path) -> None:
    """A daylight model never looks at thermal footage by mistake."""
    registry.add(folder(tmp_path / "new"), model_id=ONE, modality=Modality.RGB, by="amina")
    with pytest.raises(ModelUnavailable, match="for rgb cameras"):
        registry.promote(ONE, modality=Modality.THERMAL, by="amina")
    with pytest.raises(ModelUnavailable, match="no model"):
        registry.promote(OTHER, modality=Modality.THERMAL, by="amina")


def test_two_who_promote_at_once_lose_neither(store: LocalStore, tmp_path: Path) -> None:
    """A promotion that comes in between stays in the history, before the later one."""

    class Overtaken(LocalStore):
        """A store in which somebody else promotes just before the first write."""

        overtaken = False

        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
            if key.startswith("models/promoted/") and not self.overtaken:
                self.overtaken = True
                theirs.promote(OTHER, modality=Modality.THERMAL, by="bilal")
            super().put(key, data, if_absent=if_absent)

    theirs = ModelRegistry(store, cache=tmp_path / "theirs", now=lambda: NOW)
    ours = ModelRegistry(Overtaken(tmp_path / "store"), cache=tmp_path / "ours", now=lambda: NOW)
    for name, weights in ((ONE, b"1"), (OTHER, b"2")):
        theirs.add(folder(tmp_path / name, weights), model_id=name, modality=Modality.THERMAL, by="amina")
    ours.promote(ONE, modality=Modality.THERMAL, by="amina")
    history = [(step.model_id, step.previous_id) for step in theirs.promotions(Modality.THERMAL)]
    assert [(OTHER, None), (ONE, OTHER)] == history


@pytest.mark.parametrize("model_id", ["../night-0123456789ab", "night", "night-0123456789AB", "promoted"])
def test_ids_that_are_none_are_refused(registry: ModelRegistry, model_id: str) -> None:
    """An id is a name and twelve digits of a hash: no path, no folder of promotions."""
    with pytest.raises(KeyInvalid, match="no model's id"):
        registry.fetch(model_id)


def climbing() -> bytes:
    """Return a manifest that names a file outside of its folder."""
    files = {"../../model.bin": "0" * 64}
    fields = {"id": ONE, "modality": "rgb", "added_at": NOW.isoformat(), "added_by": "x", "files": files}
    return json.dumps(fields).encode()


def test_a_manifest_that_is_none_says_what_to_do(registry: ModelRegistry, store: LocalStore) -> None:
    """Whatever stands in the store, the error names the object."""
    for broken in (b"no json", b"[]", json.dumps({"id": ONE, "files": []}).encode(), climbing()):
        store.put(keys.model(ONE, "manifest.json"), broken)
        with pytest.raises(ModelUnavailable, match=f"models/{ONE}/manifest.json"):
            registry.get(ONE)
