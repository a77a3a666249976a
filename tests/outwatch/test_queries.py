"""What the front doors read: where objects lie, and the order of alerts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from outwatch.domain.types import Alert, Event, Priority
from outwatch.pipeline import queries, wiring
from outwatch.settings import load_settings
from storage.s3 import S3Store

KEY = "evidence/dt=2026-03-14/event-1/still.jpg"


@pytest.mark.parametrize("name", ["two words", "a#b", "چوکی", "o'clock"])
def test_object_in_a_folder_is_located_by_its_path(tmp_path: Path, home: Path, name: str) -> None:
    """The path can be opened as it stands."""
    with wiring.open_pipeline(load_settings(home=tmp_path / name)) as pipeline:
        pipeline.store.put(KEY, b"still")
        assert Path(queries.locate(pipeline, KEY)).read_bytes() == b"still"


@pytest.mark.parametrize(
    ("prefix", "expected"), [("", f"s3://watch/{KEY}"), ("a/b", f"s3://watch/a/b/{KEY}")]
)
def test_object_in_a_bucket_is_located_by_its_s3_address(prefix: str, expected: str) -> None:
    """Bucket, prefix and key, as S3 tools take it: neither endpoint nor secret."""
    store = S3Store(
        endpoint="127.0.0.1:9",
        bucket="watch",
        prefix=prefix,
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        secure=False,
        timeout_s=1.0,
    )
    pipeline = cast("wiring.Pipeline", SimpleNamespace(store=store))
    assert queries.locate(pipeline, KEY) == expected


def test_alerts_come_newest_first_and_for_one_control_room(home: Path, gathering: Event) -> None:
    """Two alerts, a minute apart, to two control rooms."""
    with wiring.open_pipeline() as pipeline:
        for minute, room in enumerate(("Peshawar", "Quetta")):
            raised_at = gathering.ended_at + timedelta(minutes=minute)
            alert = Alert(
                id=f"alert-{room}",
                dedup_key=room,
                priority=Priority.P2,
                kind=gathering.kind,
                outpost_id=gathering.outpost_id,
                control_room=room,
                event_ids=(f"event-{room}",),
                raised_at=raised_at,
                captured_from=gathering.started_at,
                captured_to=gathering.ended_at,
                message_en="About 13 people near Sample Post",
                message_ur="سیمپل پوسٹ کے قریب تقریباً 13 افراد",
            )
            pipeline.alert_book.raise_or_join(
                alert, cool_down=timedelta(0), longest=timedelta(hours=1), channels=["log"]
            )
        assert [alert.control_room for alert in queries.alerts(pipeline)] == ["Quetta", "Peshawar"]
        (found,) = queries.alerts(pipeline, control_room="Peshawar")
        row = queries.alert_row(pipeline, found)
    assert row["id"] == "alert-Peshawar"
    assert row["raised_at"] == gathering.ended_at.isoformat()
    assert [(item["channel"], item["state"]) for item in row["deliveries"]] == [("log", "pending")]
