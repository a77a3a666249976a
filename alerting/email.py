"""Alerts as mail: English and Urdu as plain text and as a page that runs the right way, with the still.

Belongs here: composing one mail and handing it to a mail server. Not here: retries (``delivery.py``)
and the words (``messages.py``).
"""

from __future__ import annotations

import html
import re
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import structlog

from outwatch.domain.errors import ConfigInvalid, DeliveryFailed, DeliveryRefused
from outwatch.domain.hosts import is_loopback
from outwatch.domain.ports import Message

_log = structlog.get_logger(__name__)
_ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]\\]+@[^@\s<>,;:\"()\[\]\\]+")
"""A bare mailbox such as room@police.example: no display names, and nothing that could end a header."""
_IMPLICIT_TLS_PORT = 465
"""Submission over TLS from the first byte (RFC 8314, section 3.3)."""
_PERMANENT = 500
"""SMTP replies from here on are permanent, those below are not (RFC 5321, section 4.2.1)."""
_STILL_CID = "still"


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """Sends alerts through one mail server to fixed recipients."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    starttls: bool
    sender: str
    recipients: tuple[str, ...]
    timeout_s: float
    name: str = "email"

    def __post_init__(self) -> None:
        """Check what would otherwise fail at the first alert.

        Raises:
            ConfigInvalid: host, sender or recipients are missing or malformed, or the password would
                cross a network in the clear.
        """
        if not self.host:
            raise ConfigInvalid("mail server is not set: set OUTWATCH_ALERTS__SMTP_HOST")
        if not self.recipients:
            raise ConfigInvalid("mail has no recipients: set OUTWATCH_ALERTS__EMAIL_TO")
        for address in (self.sender, *self.recipients):
            if not _ADDRESS.fullmatch(address):
                raise ConfigInvalid(f"mail address must be a bare name@domain, found {address!r}")
        if self.user and not self._encrypted and not is_loopback(self.host):
            raise ConfigInvalid(
                f"mail password would reach {self.host} unencrypted: set OUTWATCH_ALERTS__SMTP_STARTTLS=true"
            )

    @property
    def _encrypted(self) -> bool:
        return self.starttls or self.port == _IMPLICIT_TLS_PORT

    def send(self, message: Message) -> str:
        """Send one mail and return the server's answer, with any recipient it turned away for good.

        A mail that some recipients cannot get for now counts as failed: sending it again shows no double,
        because its Message-ID is the alert's.

        Raises:
            DeliveryFailed: no connection, a 4xx reply, or a recipient turned away for now.
            DeliveryRefused: a 5xx reply, or a server without the TLS that is asked for.
        """
        mail = self._compose(message)
        try:
            with self._connect() as server:
                turned_away = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._recipients_error(error.recipients) from error
        except smtplib.SMTPResponseException as error:
            reason = f"mail server {self.host} answered {error.smtp_code} {_text(error.smtp_error)}"
            if error.smtp_code >= _PERMANENT:
                raise DeliveryRefused(reason) from error
            raise DeliveryFailed(reason) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryRefused(f"mail server {self.host} cannot do what is asked: {error}") from error
        except OSError as error:  # smtplib's other errors, timeouts and TLS errors are all OSError
            raise DeliveryFailed(
                f"mail server {self.host}:{self.port} did not take the mail: {error}"
            ) from error
        if any(code < _PERMANENT for code, _ in turned_away.values()):
            raise self._recipients_error(turned_away)
        for address, (code, _) in turned_away.items():
            _log.warning("recipient_refused", alert_id=message.alert_id, recipient=address, code=code)
        lost = f"; refused: {_listed(turned_away)}" if turned_away else ""
        return f"accepted by {self.host} as {mail['Message-ID']}{lost}"

    def _connect(self) -> smtplib.SMTP:
        """Return a server that is connected, encrypted and logged in as far as the settings ask."""
        context = ssl.create_default_context()
        if self.port == _IMPLICIT_TLS_PORT:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=self.timeout_s, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
        try:
            if self.starttls and self.port != _IMPLICIT_TLS_PORT:
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.password)
        except BaseException:
            server.close()
            raise
        return server

    def _recipients_error(
        self, turned_away: Mapping[str, tuple[int, bytes]]
    ) -> DeliveryFailed | DeliveryRefused:
        reason = f"mail server {self.host} turned away {_listed(turned_away)}"
        for_now = any(code < _PERMANENT for code, _ in turned_away.values())
        return DeliveryFailed(reason) if for_now else DeliveryRefused(reason)

    def _compose(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Subject"] = _one_line(message.subject)
        mail["Date"] = format_datetime(datetime.now(UTC))
        # The same id at every attempt, so that mail readers and servers show a repeated mail once.
        mail["Message-ID"] = f"<{_token(message.alert_id)}@{self.sender.rpartition('@')[2]}>"
        mail["X-Outwatch-Alert"] = _one_line(message.alert_id)
        mail["X-Outwatch-Priority"] = _one_line(message.priority)
        footer = f"Alert {message.alert_id}, priority {message.priority}, control room {message.control_room}"
        mail.set_content(f"{message.text_en}\n\n{message.text_ur}\n\n{footer}\n")
        mail.add_alternative(_page(message, footer=footer), subtype="html")
        if message.still_jpeg is not None:
            mail.get_payload()[1].add_related(  # type: ignore[union-attr, index]
                message.still_jpeg,
                maintype="image",
                subtype="jpeg",
                cid=f"<{_STILL_CID}>",
                filename=f"{_token(message.alert_id)}.jpg",
                disposition="inline",
            )
        return mail


def _page(message: Message, *, footer: str) -> str:
    """Return the mail as HTML: without it, mail readers lay Urdu out from the left."""
    english, urdu, last = (
        html.escape(text).replace("\n", "<br>\n") for text in (message.text_en, message.text_ur, footer)
    )
    still = f'<p><img src="cid:{_STILL_CID}" alt="still" width="640"></p>' if message.still_jpeg else ""
    return (
        f'<!DOCTYPE html><html><body><div lang="en" dir="ltr">{english}</div><hr>'
        f'<div lang="ur" dir="rtl">{urdu}</div>{still}<hr><small>{last}</small></body></html>'
    )


def _one_line(text: str) -> str:
    """Return text for a header: a line break in a name must not start another header."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _token(text: str) -> str:
    """Return text fit for a message id and a file name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def _text(reply: bytes | str) -> str:
    return _one_line(reply.decode(errors="replace") if isinstance(reply, bytes) else reply)


def _listed(turned_away: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{who} ({code} {_text(reply)})" for who, (code, reply) in turned_away.items())
