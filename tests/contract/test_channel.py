"""One suite for every channel: the words arrive whole, and failures have the names the port promises.

Each channel talks to a real receiver: a file, an HTTP server and an SMTP server on loopback.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from aiosmtpd.controller import Controller

from alerting.email import EmailChannel
from alerting.log import LogChannel
from alerting.webhook import WebhookChannel
from outwatch.domain.errors import DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Channel, Message

Mood = Literal["takes", "is_busy", "refuses"]
SECRET = "only-the-two-of-us"
MESSAGE = Message(
    alert_id="7d0f8c2e-0000-5000-8000-000000000001",
    priority="P1",
    control_room="kohat-sample",
    subject="[P1] Gathering of about 13 people near Sample Post",
    text_en="Gathering of about 13 people (10 to 16).\nIt may be innocent.",
    text_ur="\u200fتقریباً \u206613\u2069 افراد کا اجتماع دیکھا گیا۔\n\u200fیہ بے ضرر بھی ہو سکتا ہے۔",
    payload={"event_ids": ["event-1"], "outpost": {"name_ur": "نمونہ چوکی"}, "lat_deg": 33.58662},
    still_jpeg=b"\xff\xd8 not a picture, but bytes \xff\xd9",
)


@dataclass
class Receiver:
    """The other end: a channel to it in each mood, and the texts that arrived."""

    channel: Callable[[Mood], Channel]
    received: Callable[[], list[str]]


@contextmanager
def log_receiver(folder: Path) -> Iterator[Receiver]:
    """A file; a full device where it is busy, a folder where it refuses."""
    paths = {"takes": folder / "alerts.jsonl", "is_busy": Path("/dev/full"), "refuses": folder}

    def received() -> list[str]:
        if not paths["takes"].exists():
            return []
        lines = paths["takes"].read_text(encoding="utf-8").splitlines()
        return ["\n".join(_strings(json.loads(line))) for line in lines]

    yield Receiver(lambda mood: LogChannel(paths[mood]), received)


@contextmanager
def webhook_receiver(_folder: Path) -> Iterator[Receiver]:
    """An HTTP server that answers 200, 503 or 403 by path."""
    bodies: list[bytes] = []
    statuses = {"/takes": 200, "/is_busy": 503, "/refuses": 403}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if statuses[self.path] == 200:
                bodies.append(body)
            self.send_response(statuses[self.path])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Receiver(
            lambda mood: WebhookChannel(
                f"http://127.0.0.1:{server.server_port}/{mood}", secret=SECRET, timeout_s=5
            ),
            lambda: ["\n".join(_strings(json.loads(body))) for body in bodies],
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class _Inbox:
    """An SMTP server's post-box that answers by the recipient's name."""

    mails: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        """Answer as the recipient's name says."""
        mood = envelope.rcpt_tos[0].partition("@")[0]
        if mood == "takes":
            self.mails.append(envelope.content)
        return {"takes": "250 OK", "is_busy": "451 try later", "refuses": "550 not here"}[mood]


@contextmanager
def email_receiver(_folder: Path) -> Iterator[Receiver]:
    """An SMTP server that answers 250, 451 or 550 by recipient."""
    inbox, port = _Inbox(), _free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        channel = EmailChannel(
            host="127.0.0.1",
            port=port,
            user="",
            password="",
            starttls=False,
            sender="outwatch@station.example",
            recipients=("takes@room.example",),
            timeout_s=5,
        )
        yield Receiver(
            lambda mood: replace(channel, recipients=(f"{mood}@room.example",)),
            lambda: [_words(mail) for mail in inbox.mails],
        )
    finally:
        controller.stop()


@pytest.fixture(params=[log_receiver, webhook_receiver, email_receiver], ids=["log", "webhook", "email"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    """Return each channel's receiver in turn."""
    with request.param(tmp_path) as built:
        yield built


def test_the_words_arrive_in_both_languages(receiver: Receiver) -> None:
    """Every line of both texts, the subject and the ids arrive unchanged."""
    answer = receiver.channel("takes").send(MESSAGE)
    (text,) = receiver.received()
    assert answer
    for line in (*MESSAGE.text_en.splitlines(), *MESSAGE.text_ur.splitlines(), MESSAGE.subject):
        assert line in text
    for name in (MESSAGE.alert_id, MESSAGE.priority, MESSAGE.control_room):
        assert name in text


def test_sending_again_sends_again_with_the_same_id(receiver: Receiver) -> None:
    """Channels keep no state; the id lets the receiver drop the double."""
    channel = receiver.channel("takes")
    channel.send(MESSAGE)
    channel.send(MESSAGE)
    assert [MESSAGE.alert_id in text for text in receiver.received()] == [True, True]


def test_a_message_without_a_still_is_sent(receiver: Receiver) -> None:
    """The words do not wait for a picture."""
    receiver.channel("takes").send(replace(MESSAGE, still_jpeg=None))
    assert MESSAGE.alert_id in receiver.received()[0]


def test_a_busy_receiver_is_a_failure_to_try_again(receiver: Receiver) -> None:
    """The error says who did not take it; nothing arrived."""
    channel = receiver.channel("is_busy")
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1|/dev/full"):
        channel.send(MESSAGE)
    assert receiver.received() == []


def test_a_refusal_is_final(receiver: Receiver) -> None:
    """The error is of the kind that is never retried; nothing arrived."""
    channel = receiver.channel("refuses")
    with pytest.raises(DeliveryRefused):
        channel.send(MESSAGE)
    assert receiver.received() == []


def test_a_hostile_name_stays_text(receiver: Receiver) -> None:
    """Line breaks, markup and quotes in names neither end a header nor a line of JSON."""
    hostile = 'x\r\nBcc: spy@evil.example\r\n\r\n<script>alert("1")</script>'
    receiver.channel("takes").send(replace(MESSAGE, subject=hostile, control_room=hostile))
    (text,) = receiver.received()
    assert "spy@evil.example" in text
    assert not [line for line in text.splitlines() if line.startswith("header Bcc")]


def test_channels_are_named_and_show_no_secret(receiver: Receiver) -> None:
    """The name is that of the settings; a channel in a log or traceback gives nothing away."""
    channel = receiver.channel("takes")
    assert channel.name in {"log", "webhook", "email"}
    assert SECRET not in repr(channel)


def _free_port() -> int:
    """Return a port that was free a moment ago: the SMTP controller cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _strings(value: object) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _words(mail: bytes) -> str:
    """Return headers and plain text of a mail as a reader shows them."""
    parsed = message_from_bytes(mail, policy=default)
    assert isinstance(parsed, EmailMessage)
    body = parsed.get_body(("plain",))
    assert body is not None
    headers = [f"header {name}: {value}" for name, value in parsed.items()]
    return "\n".join([*headers, str(parsed["Subject"]), body.get_content()])
