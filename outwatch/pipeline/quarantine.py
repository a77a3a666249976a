"""Keep what must not be used, with the reason a person can act on.

Belongs here: the one way into ``quarantine/``, whatever the door. Not here: why a file is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

from ingest.register import refusal
from outwatch.domain.errors import OutwatchError
from outwatch.pipeline.wiring import Pipeline
from storage import keys


def quarantine(
    pipeline: Pipeline, path: Path, *, name: str, sha256: str, error: OutwatchError, why: str = ""
) -> str:
    """Copy a file to ``quarantine/``, write its reason beside it, and return its key.

    Args:
        pipeline: whose store.
        path: where the file lies now; it stays there.
        name: what the person who handed it in calls it.
        sha256: the file's digest.
        error: why it is refused, which decides on the advice.
        why: its words for people, where they are not those of the error.
    """
    reason = refusal(error, file_name=name, sha256=sha256)
    key = keys.quarantine(sha256, name)
    pipeline.store.upload(key, path)
    text = json.dumps(reason | {"why": why or reason["why"]}, indent=1, ensure_ascii=False)
    pipeline.store.put(keys.quarantine_reason(sha256), text.encode())
    return key
