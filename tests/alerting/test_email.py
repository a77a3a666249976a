"""Mail is whole, safe and encrypted, and every reply of a mail server has its name."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from alerting.email import EmailChannel
from outwatch.domain.errors import ConfigInvalid, DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Message

STILL = b"\xff\xd8 bytes \xff\xd9"
MESSAGE = Message(
    "a1", "P1", "room-7", "[P1] Gathering near Sample Post", "one\ntwo <b>", "\u200fایک", {"n": 1}, STILL
)
PASSWORD = "hunter2"


@dataclass
class Inbox:
    """A post-box with a reply per recipient, and the SMTP handler that fills it."""

    mails: list[bytes] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(  # noqa: N802
        self, _server: object, _session: object, envelope: Any, address: str, _options: object
    ) -> str:
        """Answer as told for this recipient."""
        reply = self.replies.get(address, "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        """Keep the mail."""
        self.mails.append(envelope.content)
        return "250 OK"

    def mail(self) -> EmailMessage:
        """Return the only mail."""
        (content,) = self.mails
        parsed = message_from_bytes(content, policy=default)
        assert isinstance(parsed, EmailMessage)
        return parsed


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def channel(port: int, **changes: Any) -> EmailChannel:
    """Return a plain channel to a loopback server."""
    plain = EmailChannel(
        host="127.0.0.1",
        port=port,
        user="",
        password="",
        starttls=False,
        sender="outwatch@station.example",
        recipients=("one@room.example", "two@room.example"),
        timeout_s=5,
    )
    return replace(plain, **changes)


@pytest.fixture
def inbox() -> Inbox:
    """Return an empty post-box."""
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    """Return the port of a server without TLS."""
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "server.pem"
    path.write_bytes(secret + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_port(inbox: Inbox, certificate: Path) -> Iterator[int]:
    """Return the port of a server that demands STARTTLS and a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def check(
        _server: object, _session: object, _envelope: object, _mechanism: str, data: object
    ) -> AuthResult:
        good = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
        return AuthResult(success=good, handled=good)

    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=check,
        auth_required=True,
    )
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def test_a_mail_holds_both_languages_twice_and_the_still(inbox: Inbox, port: int) -> None:
    """Plain text for any reader, a page with Urdu from the right, and the picture in it."""
    channel(port).send(MESSAGE)
    mail = inbox.mail()
    plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert page is not None
    text = "one\ntwo <b>\n\n\u200fایک\n\nAlert a1, priority P1, control room room-7\n"
    assert plain.get_content().replace("\r\n", "\n") == text
    assert '<div lang="ur" dir="rtl">\u200fایک</div>' in page.get_content()
    assert "two &lt;b&gt;" in page.get_content()
    (image,) = [part for part in mail.walk() if part.get_content_type() == "image/jpeg"]
    assert image.get_content() == STILL
    assert image["Content-ID"] == "<still>"
    assert 'src="cid:still"' in page.get_content()


def test_headers_say_who_what_and_which(inbox: Inbox, port: int) -> None:
    """The Message-ID is the alert's, the same at every attempt."""
    channel(port).send(MESSAGE)
    mail = inbox.mail()
    assert mail["Message-ID"] == "<a1@station.example>"
    assert mail["To"] == "one@room.example, two@room.example"
    assert mail["Subject"] == MESSAGE.subject
    assert (mail["X-Outwatch-Alert"], mail["X-Outwatch-Priority"]) == ("a1", "P1")
    assert mail["Date"].datetime.utcoffset() == dt.timedelta(0)


def test_line_breaks_cannot_start_a_header(inbox: Inbox, port: int) -> None:
    """Neither in the subject nor in ids."""
    hostile = "a\r\nBcc: spy@evil.example\r\n\r\nbody"
    channel(port).send(replace(MESSAGE, subject=hostile, alert_id=hostile, priority=hostile))
    mail = inbox.mail()
    assert mail["Bcc"] is None
    assert mail["Subject"] == "a Bcc: spy@evil.example body"


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ({"one@room.example": "450 later", "two@room.example": "550 no"}, DeliveryFailed),
        ({"one@room.example": "450 later"}, DeliveryFailed),
        ({"one@room.example": "550 no", "two@room.example": "551 no"}, DeliveryRefused),
    ],
)
def test_recipients_that_are_turned_away(
    inbox: Inbox, port: int, replies: dict[str, str], error: type[Exception]
) -> None:
    """For now: try again, doubles merge. All for good: final."""
    inbox.replies = replies
    with pytest.raises(error, match=r"one@room\.example"):
        channel(port).send(MESSAGE)


def test_one_recipient_lost_for_good_is_told_and_logged(inbox: Inbox, port: int) -> None:
    """The others have the mail, so it is delivered; the record says who has not."""
    inbox.replies = {"two@room.example": "550 unknown"}
    with capture_logs() as logs:
        answer = channel(port).send(MESSAGE)
    assert "refused: two@room.example (550 unknown)" in answer
    assert [(entry["event"], entry["recipient"]) for entry in logs] == [
        ("recipient_refused", "two@room.example")
    ]
    assert len(inbox.mails) == 1


def test_login_over_tls(
    inbox: Inbox, tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STARTTLS with a certificate that is trusted, then the password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    channel(tls_port, starttls=True, user="u", password=PASSWORD).send(MESSAGE)
    assert inbox.mail()["Subject"] == MESSAGE.subject


def test_a_wrong_password_is_a_refusal_without_the_password(
    tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """535 comes again until a person changes the settings."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(DeliveryRefused, match="535") as caught:
        channel(tls_port, starttls=True, user="u", password="wrong-one").send(MESSAGE)
    assert "wrong-one" not in str(caught.value)


def test_an_unknown_certificate_gets_no_password(inbox: Inbox, tls_port: int) -> None:
    """Whoever sits in between learns nothing; the alert waits."""
    with pytest.raises(DeliveryFailed, match=r"(?i)certificate"):
        channel(tls_port, starttls=True, user="u", password=PASSWORD).send(MESSAGE)
    assert inbox.mails == []


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(inbox: Inbox, port: int) -> None:
    """There is no falling back to plain text."""
    with pytest.raises(DeliveryRefused, match="STARTTLS"):
        channel(port, starttls=True).send(MESSAGE)
    assert inbox.mails == []


def test_nobody_there_is_a_failure() -> None:
    """A refused connection may be a restart."""
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1"):
        channel(free_port()).send(MESSAGE)


def test_silence_is_a_failure() -> None:
    """A server that never greets does not hold up the others."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DeliveryFailed, match="timed out"),
    ):
        channel(silent.getsockname()[1], timeout_s=0.2).send(MESSAGE)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"host": ""}, "SMTP_HOST"),
        ({"recipients": ()}, "EMAIL_TO"),
        ({"sender": ""}, "bare name@domain"),
        ({"sender": "Outwatch <a@b.example>"}, "bare name@domain"),
        ({"recipients": ("a@b.example\nBcc: c@d.example",)}, "bare name@domain"),
        ({"recipients": ("a@b.example, c@d.example",)}, "bare name@domain"),
        ({"host": "mail.example", "user": "u", "starttls": False}, "unencrypted"),
    ],
)
def test_bad_settings_are_refused_at_start(changes: dict[str, Any], names: str) -> None:
    """Not at the first alert."""
    with pytest.raises(ConfigInvalid, match=names):
        channel(25, **changes)


def test_repr_gives_no_password_away() -> None:
    """Channels end up in logs and tracebacks."""
    assert PASSWORD not in repr(channel(25, password=PASSWORD))
