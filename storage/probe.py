"""What a store keeps of its promises, tried with small objects.

Belongs here: the trials. Not here: what follows from a promise not kept, which each step decides
from ``Promises``, and the words for a person (``outwatch doctor``).
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from outwatch.domain.errors import AccessDenied, ConfigInvalid, ObjectMissing, PermanentError
from outwatch.domain.ports import ObjectStore, Promises

_CONTENT = b"0123456789"
_NOT_KEPT = {
    "conditional_create": "two writers at one moment may both create a key",
    "rejects_wrong_secret": "whoever reaches the server may read and write without our secret",
    "ranged_get": "a part of an object cannot be read without the whole",
    "read_after_write": "what was written may not be seen at once",
}


def probe_store(store: ObjectStore, *, wrong_secret: ObjectStore | None = None) -> Promises:
    """Try each promise with objects under ``.probe/`` and remove them.

    Args:
        store: the store to try.
        wrong_secret: the same place under a secret that is wrong. Without it a local folder counts
            as keeping ``rejects_wrong_secret``, having no secret; any other store as not keeping it.

    Returns:
        What was seen. ``notes`` holds, for each promise not kept, its name and what that means.

    Raises:
        StoreUnavailable: the store did not answer.
        AccessDenied: it refused us, not only the wrong secret.
        ConfigInvalid: its bucket is not there.
    """
    folder = f".probe/{uuid4().hex}"
    trials: dict[str, Callable[[], bool]] = {
        "conditional_create": lambda: store.atomic_create,
        "rejects_wrong_secret": lambda: _rejects(store, wrong_secret, key=f"{folder}/secret"),
        "ranged_get": lambda: _reads_ranges(store, key=f"{folder}/range"),
        "read_after_write": lambda: _reads_own_writes(store, folder=f"{folder}/written/"),
    }
    notes: list[str] = []
    kept: dict[str, bool] = {}
    try:
        for name, trial in trials.items():
            kept[name], found = _tried(trial)
            if not kept[name]:
                notes.append(f"{name}: {_NOT_KEPT[name]}{found}")
    finally:
        for info in store.list(f"{folder}/"):
            store.delete(info.key)
    return Promises(**kept, notes=tuple(notes))


def _tried(trial: Callable[[], bool]) -> tuple[bool, str]:
    try:
        return trial(), ""
    except (AccessDenied, ConfigInvalid):
        raise
    except PermanentError as error:
        return False, f" ({error})"


def _rejects(store: ObjectStore, wrong_secret: ObjectStore | None, *, key: str) -> bool:
    if wrong_secret is None:
        return store.url.startswith("file:")
    store.put(key, _CONTENT)
    return _refused(lambda: wrong_secret.get(key)) and _refused(lambda: wrong_secret.put(key, b""))


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except AccessDenied:
        return True
    return False


def _reads_ranges(store: ObjectStore, *, key: str) -> bool:
    store.put(key, _CONTENT)
    ranges = ((2, 3), (8, 30), (30, 3), (4, None))
    return all(
        store.get(key, start=start, length=length)
        == _CONTENT[start : None if length is None else start + length]
        for start, length in ranges
    )


def _reads_own_writes(store: ObjectStore, *, folder: str) -> bool:
    """Whether a write, an overwrite and a delete are seen at once, by get and by list."""
    key = f"{folder}object"
    for content in (b"first", b"second"):
        store.put(key, content)
        if store.get(key) != content or [info.key for info in store.list(folder)] != [key]:
            return False
    store.delete(key)
    try:
        store.head(key)
    except ObjectMissing:
        return not list(store.list(folder))
    return False
