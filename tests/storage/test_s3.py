"""The S3 store without a server: what it says of itself, and of a server that is not there."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outwatch.domain.errors import ConfigInvalid, KeyInvalid, StoreUnavailable
from storage.probe import probe_store
from storage.s3 import S3Store

STORE = S3Store(
    endpoint="store.example:9000",
    bucket="outwatch",
    prefix="/team/",
    access_key="the-access-key",
    secret_key="the-secret-key",
    region="us-east-1",
    secure=True,
    timeout_s=1,
)


@pytest.fixture
def deaf() -> Iterator[S3Store]:
    """A store at a port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take it
        yield replace(STORE, endpoint=f"127.0.0.1:{bound.getsockname()[1]}", secure=False)


def test_secrets_stay_out_of_sight() -> None:
    """Neither the keys nor a wrong secret show in what is printed or logged."""
    for shown in (repr(STORE), str(STORE), STORE.url, repr(STORE.with_secret("the-wrong-secret"))):
        for hidden in ("the-access-key", "the-secret-key", "the-wrong-secret"):
            assert hidden not in shown
    assert STORE.url == "s3://outwatch/team/?endpoint=https://store.example:9000"


def test_twin_with_another_secret_differs_in_nothing_else() -> None:
    """The wrong-secret twin is the same place."""
    twin = STORE.with_secret("wrong")
    assert (twin.secret_key, replace(twin, secret_key="the-secret-key").url) == ("wrong", STORE.url)
    assert pickle.loads(pickle.dumps(twin)).url == STORE.url  # noqa: S301


def test_silent_server_is_unavailable(deaf: S3Store, tmp_path: Path) -> None:
    """Every call names the store and says what to check, within bounded time."""
    (tmp_path / "file").write_bytes(b"x")
    for call in (
        lambda: deaf.put("a", b"x"),
        lambda: deaf.download("a", tmp_path / "file"),
        lambda: probe_store(deaf),
    ):
        with pytest.raises(StoreUnavailable, match="check that it runs and can be reached") as caught:
            call()
        assert "the-secret-key" not in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bucket", "No_Such Bucket"),
        ("bucket", "x"),
        ("endpoint", "http://store:9000"),
        ("endpoint", "store:9000/path"),
    ],
)
def test_wrong_settings_are_named(field: str, value: str) -> None:
    """A bucket or an endpoint that cannot be is told at once, with its name."""
    with pytest.raises(ConfigInvalid, match=value):
        replace(STORE, **{field: value})


def test_prefix_counts_towards_the_longest_key() -> None:
    """A key that is only too long under the store's prefix is refused, not cut."""
    with pytest.raises(KeyInvalid, match="1025 bytes"):
        STORE.get("/".join(["k" * 204] * 5)[: 1025 - len("team/")])
