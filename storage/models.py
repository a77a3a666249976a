"""The registry of models: their files, and which of them looks at what a camera sees.

Belongs here: models as objects under ``models/<model_id>/``, their copies on this machine, and promotions.
Not here: what is in the files, loading or running them (``detection/``).

A model's ``manifest.json`` names the SHA-256 of each of its files and is written last: a model without one
is not there. A promotion is an object of its own, created only if its number is free, so that history is
never lost, whoever promotes at the same time; the last one stands.
"""

from __future__ import annotations

import getpass
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from outwatch.domain.errors import ModelUnavailable, ObjectExists, ObjectMissing
from outwatch.domain.ports import ObjectStore
from outwatch.domain.types import Modality
from storage import keys

MANIFEST_NAME = "manifest.json"
SOURCE_STEM = "source"
"""Stem of the weights a model was made of: kept for training on, never fetched to run it."""
_TRIES = 20
"""Promotions that may come in between before one gives up."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the registry."""

    id: str
    modality: Modality
    added_at: datetime
    added_by: str
    files: Mapping[str, str]
    """SHA-256 by file name."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """That a model, or the shipped one where none is named, looks at what a camera sees from then on."""

    modality: Modality
    model_id: str | None
    previous_id: str | None
    at: datetime
    by: str


def this_user() -> str:
    """Return who runs this process, as the machine knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


class ModelRegistry:
    """Models in an object store, with copies of those in use in a folder of this machine."""

    def __init__(self, store: ObjectStore, *, cache: Path, now: Callable[[], datetime]) -> None:
        """Take what it stands on.

        Args:
            store: where models last.
            cache: where copies are kept; made at the first use.
            now: gives the present time.
        """
        self._store, self._cache, self._now = store, cache, now

    def add(self, folder: Path, *, model_id: str, modality: Modality, by: str) -> StoredModel:
        """Store a model's folder; one that is there already, file by file, stays as it is.

        Raises:
            KeyInvalid: the id is none.
            ObjectExists: another model of this id is there, with other files.
        """
        files = {path.name: keys.sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
        standing = self.find(model_id)
        if standing is not None:
            if (standing.files, standing.modality) == (files, modality):
                return standing
            raise ObjectExists(
                f"model {model_id} is in the registry with other files or for {standing.modality} cameras: "
                "give this one another name"
            )
        for name in files:
            self._store.upload(keys.model(model_id, name), folder / name)
        model = StoredModel(model_id, modality, self._now(), by, files)
        fields = asdict(model) | {"added_at": model.added_at.isoformat()}
        try:
            self._store.put(keys.model(model_id, MANIFEST_NAME), _json(fields), if_absent=True)
        except ObjectExists:  # somebody else added it meanwhile: theirs stands, or ours is refused
            return self.add(folder, model_id=model_id, modality=modality, by=by)
        _log.info("model_added", model_id=model_id, modality=modality, by=by)
        return model

    def models(self) -> Iterator[StoredModel]:
        """Yield every model, in order of id."""
        for info in self._store.list(keys.models_prefix()):
            if PurePosixPath(info.key).name == MANIFEST_NAME:
                yield self._read(info.key)

    def find(self, model_id: str) -> StoredModel | None:
        """Return a model by its id, None where it is not in the registry."""
        try:
            return self._read(keys.model(model_id, MANIFEST_NAME))
        except ObjectMissing:
            return None

    def get(self, model_id: str) -> StoredModel:
        """Return a model by its id.

        Raises:
            ModelUnavailable: it is not in the registry.
        """
        model = self.find(model_id)
        if model is None:
            raise ModelUnavailable(
                f"there is no model {model_id} in {self._store.url}: `outwatch models list`"
            )
        return model

    def text(self, model_id: str, name: str) -> str:
        """Return one of a model's files as text."""
        return self._store.get(keys.model(model_id, name)).decode()

    def fetch(self, model_id: str) -> Path:
        """Return a folder of this machine with what is needed to run a model, each file's hash checked.

        Raises:
            ModelUnavailable: it is not in the registry, or a file of it is not what was stored.
        """
        model = self.get(model_id)
        wanted = {name: sha256 for name, sha256 in model.files.items() if Path(name).stem != SOURCE_STEM}
        folder = self._cache / model_id
        if folder.is_dir() and not _differing(folder, wanted):
            return folder
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._cache) as scratch:
            fresh = Path(scratch) / model_id
            fresh.mkdir()
            for name in wanted:
                self._store.download(keys.model(model_id, name), fresh / name)
            if wrong := _differing(fresh, wanted):
                raise ModelUnavailable(
                    f"{wrong[0]} of model {model_id} in {self._store.url} is not the file that was stored: "
                    "remove the model there and add it again"
                )
            # A damaged copy goes; what another process put there meanwhile is as good as ours.
            if folder.is_dir() and _differing(folder, wanted):
                shutil.rmtree(folder)
            try:
                fresh.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        _log.info("model_fetched", model_id=model_id, folder=str(folder))
        return folder

    def promotions(self, modality: Modality) -> list[Promotion]:
        """Return all promotions for what a camera sees, oldest first."""
        infos = self._store.list(keys.promotions_prefix(modality))
        return [_promotion(self._store.get(info.key)) for info in infos]

    def promoted(self, modality: Modality) -> str | None:
        """Return the model that stands, None for the shipped one."""
        last = None
        for info in self._store.list(keys.promotions_prefix(modality)):
            last = info.key
        return None if last is None else _promotion(self._store.get(last)).model_id

    def promote(self, model_id: str | None, *, modality: Modality, by: str) -> Promotion:
        """Let a model look at what a camera sees from now on; None is the shipped one.

        Raises:
            ModelUnavailable: the model is not in the registry, or is for another kind of camera.
        """
        if model_id is not None and (found := self.get(model_id).modality) is not modality:
            raise ModelUnavailable(f"model {model_id} is for {found} cameras: promote it for these")
        for _ in range(_TRIES):
            history = self.promotions(modality)
            previous = history[-1].model_id if history else None
            if history and previous == model_id:
                return history[-1]
            promotion = Promotion(modality, model_id, previous, self._now(), by)
            key = keys.promotion(modality, len(history) + 1)
            try:
                self._store.put(
                    key, _json(asdict(promotion) | {"at": promotion.at.isoformat()}), if_absent=True
                )
            except ObjectExists:
                continue  # somebody else promoted meanwhile: theirs comes before ours
            _log.info("model_promoted", model_id=model_id, modality=modality, previous=previous, by=by)
            return promotion
        raise ObjectExists(f"promotions for {modality} cameras keep coming in between: try again")

    def _read(self, key: str) -> StoredModel:
        fields = _parsed(self._store.get(key), key=key)
        try:
            return StoredModel(
                id=str(fields["id"]),
                modality=Modality(fields["modality"]),
                added_at=datetime.fromisoformat(fields["added_at"]),
                added_by=str(fields["added_by"]),
                files={_file_name(name): str(sha256) for name, sha256 in fields["files"].items()},
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelUnavailable(f"{key} is no model's manifest ({error!r}): remove the model") from error


def _file_name(name: str) -> str:
    """Return a name that is no path: manifests may have been written by others."""
    if PurePosixPath(name).name != name:
        raise ValueError(f"{name!r} is no file name")
    return name


def _differing(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the files that are missing in a folder or not what they should be."""
    return [
        name
        for name, sha256 in wanted.items()
        if not (folder / name).is_file() or keys.sha256_file(folder / name) != sha256
    ]


def _promotion(data: bytes) -> Promotion:
    fields = _parsed(data, key="a promotion")
    try:
        return Promotion(
            modality=Modality(fields["modality"]),
            model_id=fields["model_id"],
            previous_id=fields["previous_id"],
            at=datetime.fromisoformat(fields["at"]),
            by=str(fields["by"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ModelUnavailable(f"a promotion in the store cannot be read ({error!r}): remove it") from error


def _parsed(data: bytes, *, key: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise ModelUnavailable(f"{key} is not JSON: remove the model and add it again") from error
    if not isinstance(fields, dict):
        raise ModelUnavailable(f"{key} holds no table: remove the model and add it again")
    return fields


def _json(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()
