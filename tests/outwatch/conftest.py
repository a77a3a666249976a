"""A home of the test's own, with no setting but that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home that the environment names; nothing else is set, and no settings file is near."""
    for name in [name for name in os.environ if name.upper().startswith("OUTWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
