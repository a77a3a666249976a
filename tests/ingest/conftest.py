"""Limits as in production."""

from __future__ import annotations

import pytest

from ingest.sandbox import Limits


@pytest.fixture
def limits() -> Limits:
    """Limits as in production, with a shorter silence."""
    return Limits(max_pixels=50_000_000, memory_mb=2048, cpu_s=60, silence_s=30)
