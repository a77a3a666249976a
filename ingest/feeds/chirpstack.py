"""Uplinks of LoRaWAN devices as the ChirpStack network server publishes them, version 4 and 3.

Belongs here: where an uplink names its device, time and decoded object. Not here: decoding the radio payload,
which the device's codec in ChirpStack does.

Version 4: ``deduplicationId``, ``time``, ``deviceInfo.devEui``, ``object``. Version 3: ``devEUI`` in base64,
``fCnt``, ``rxInfo[].time``, ``objectJSON`` as text or ``object``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ingest.feeds.mapping import TopicMapping
from ingest.feeds.measure import Problem, measured
from ingest.feeds.values import (
    Unreadable,
    decode_object,
    details_of,
    look_up,
    required,
    sensor_of,
    text_of,
    time_of,
)
from outwatch.domain.types import Observation

_EUI_BYTES = 8


def read(record: Mapping[str, Any], *, topic: str, mapping: TopicMapping) -> list[Observation | Problem]:
    """Return an observation of each declared field of an uplink's decoded object.

    Raises:
        Unreadable: it names no device, or has no decoded object.
    """
    device = _device(record)
    written = next(
        (found for path in ("time", "rxInfo.0.time") if (found := look_up(record, path)) is not None), None
    )
    counter = record.get("fCnt")
    deduplication = record.get("deduplicationId")
    if deduplication is None and isinstance(counter, int):
        deduplication = f"{device}:{counter}"
    return measured(
        _object(record),
        mapping.fields,
        sensor=sensor_of(mapping, record=record, topic=topic, default=device),
        at=None if written is None else time_of(written, name="time", zone=mapping.zone),
        source_id=None if deduplication is None else text_of(deduplication, name="deduplicationId"),
        details=details_of(
            device=look_up(record, "deviceInfo.deviceName") or record.get("deviceName"),
            f_cnt=counter,
            rssi=look_up(record, "rxInfo.0.rssi"),
        ),
    )


def _device(record: Mapping[str, Any]) -> str:
    written = look_up(record, "deviceInfo.devEui")
    if written is not None:
        return text_of(written, name="deviceInfo.devEui").lower()
    written = text_of(required(record, "devEUI"), name="devEUI")
    try:
        eui = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):  # ValueError: signs beyond ASCII
        eui = b""
    return eui.hex() if len(eui) == _EUI_BYTES else written.lower()


def _object(record: Mapping[str, Any]) -> Mapping[str, Any]:
    decoded = record.get("object")
    if isinstance(record.get("objectJSON"), str):
        decoded = decode_object(record["objectJSON"])
    if not isinstance(decoded, dict):
        raise Unreadable("uplink has no decoded object: add a codec to the device's profile in ChirpStack")
    return decoded
