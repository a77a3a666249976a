"""One attempt at one channel, and when the next is due.

Belongs here: what an attempt came to, as a value the alert book can keep. Not here: keeping it
(``storage``), the loop over open deliveries (``outwatch/pipeline/steps.py``) and the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from outwatch.domain.errors import PermanentError, TransientError
from outwatch.domain.ports import Channel, Message


@dataclass(frozen=True, slots=True)
class Delivered:
    """The channel took the message."""

    answer: str
    """What the receiver said, for the record."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The channel did not take the message this time; try again."""

    error: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel will never take the message; a person must act."""

    error: str


Attempt = Delivered | Failed | Refused


def attempt(channel: Channel, message: Message) -> Attempt:
    """Hand a message to a channel once and return what came of it.

    Errors outside the domain's tree are faults of ours and pass through.
    """
    try:
        return Delivered(channel.send(message))
    except TransientError as error:
        return Failed(f"{channel.name}: {error}")
    except PermanentError as error:
        return Refused(f"{channel.name}: {error}")


def next_attempt(attempts: int, *, base: timedelta, cap: timedelta) -> timedelta:
    """Return the wait after the ``attempts``-th failed attempt: ``base``, doubled each time, at most ``cap``.

    It is the same for the same count, so that a repeated run computes the same time. There is no jitter:
    one installation has a handful of channels, which make no herd.

    Raises:
        ValueError: no attempt has failed, or ``base`` or ``cap`` is not positive.
    """
    if attempts < 1 or base <= timedelta(0) or cap <= timedelta(0):
        raise ValueError(f"attempts, base and cap must be positive, found {attempts}, {base}, {cap}")
    # Compared as integers before multiplying: timedelta overflows after some forty doublings.
    return cap if 2 ** (attempts - 1) >= cap / base else base * 2 ** (attempts - 1)
