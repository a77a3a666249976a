"""A control room's end of the webhook, for the demo, drills and tests.

Belongs here: receiving on loopback and checking as any receiver should. Not here: sending
(``alerting/webhook.py``).
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alerting.webhook import verify_signature


@dataclass(slots=True)
class Receiver:
    """A control room's end of the webhook: what it received, checked as a receiver should."""

    secret: str
    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    forged: int = 0


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    """Listen on a free loopback port and keep every message whose signature holds."""
    receiver = Receiver(secret=secrets.token_hex(16))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            good = verify_signature(
                receiver.secret,
                timestamp=self.headers["X-Outwatch-Timestamp"],
                body=body,
                signature=self.headers["X-Outwatch-Signature"],
                now=time.time(),
            )
            if good:
                receiver.received.append(json.loads(body))
            else:
                receiver.forged += 1
            self.send_response(204 if good else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the demo's output for the demo."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/alerts"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
