"""An attempt is a value, and waits double up to a cap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.delivery import Delivered, Failed, Refused, attempt, next_attempt
from outwatch.domain.errors import AccessDenied, DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Message

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MESSAGE = Message("a1", "P1", "room", "subject", "text", "متن", {})


@dataclass(frozen=True)
class Answering:
    """A channel that answers with a word or an error."""

    answer: str | Exception
    name: str = "answering"

    def send(self, message: Message) -> str:
        """Answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return f"{self.answer} {message.alert_id}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("ok", Delivered("ok a1")),
        (DeliveryFailed("busy"), Failed("answering: busy")),
        (DeliveryRefused("no"), Refused("answering: no")),
        (AccessDenied("who?"), Refused("answering: who?")),
    ],
)
def test_an_attempt_is_a_value(answer: str | Exception, expected: object) -> None:
    """Transient errors may be tried again, permanent ones may not."""
    assert attempt(Answering(answer), MESSAGE) == expected


def test_a_fault_of_ours_passes_through() -> None:
    """A programming error is not kept as a failed delivery and retried for ever."""
    with pytest.raises(ZeroDivisionError):
        attempt(Answering(ZeroDivisionError()), MESSAGE)


def test_waits_double_up_to_the_cap() -> None:
    """1, 2, 4, 8, 16, 32 minutes, then an hour each time."""
    waits = [next_attempt(attempts, base=MINUTE, cap=HOUR) for attempts in range(1, 9)]
    assert [wait // MINUTE for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(
    attempts=st.integers(1, 5000),
    base=st.timedeltas(timedelta(microseconds=1), timedelta(days=30)),
    cap=st.timedeltas(timedelta(microseconds=1), timedelta(days=30)),
)
def test_waits_never_shrink_nor_pass_the_cap(attempts: int, base: timedelta, cap: timedelta) -> None:
    """For any count, even one kept failing for years."""
    wait = next_attempt(attempts, base=base, cap=cap)
    assert timedelta(0) < wait <= cap
    assert wait <= next_attempt(attempts + 1, base=base, cap=cap)


@pytest.mark.parametrize(
    ("attempts", "base", "cap"), [(0, MINUTE, HOUR), (1, timedelta(0), HOUR), (1, MINUTE, -HOUR)]
)
def test_senseless_arguments_are_faults(attempts: int, base: timedelta, cap: timedelta) -> None:
    """No attempt, no wait."""
    with pytest.raises(ValueError, match="must be positive"):
        next_attempt(attempts, base=base, cap=cap)
