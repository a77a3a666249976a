"""What the pipeline reads for its rules: the file of expectations, and the recall that detections carry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.expected import Expected
from outwatch.domain.types import Recall
from outwatch.pipeline.events import load_expected, recall_from

ROOT = Path(__file__).resolve().parents[2]


def loaded(path: Path | None) -> Expected:
    return load_expected(path, zone=ZoneInfo("Asia/Karachi"), outposts=["shahbaz-post"])


def test_no_file_expects_nothing() -> None:
    """The zone is that of local times."""
    expected = loaded(None)
    assert (expected.activities, expected.own, str(expected.zone)) == ((), (), "Asia/Karachi")


def test_the_example_of_the_guide_is_taken(tmp_path: Path) -> None:
    """As it stands in docs/rules.md, for the outposts of the demo."""
    guide = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    example = guide.split("```\n[[activity]]")[1].split("```")[0]
    path = tmp_path / "expected.toml"
    path.write_text(f"[[activity]]{example}", encoding="utf-8")
    expected = loaded(path)
    assert [entry.name for entry in expected.activities] == ["Friday prayer"]
    assert [entry.name for entry in expected.own] == ["motor pool", "supply convoy"]


@pytest.mark.parametrize(("name", "text"), [("e.toml", "activity = []"), ("e.json", '{"activity": []}')])
def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path: Path, name: str, text: str) -> None:
    """Notepad writes one."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert loaded(path).activities == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.toml", None, "gone.toml cannot be read as TOML"),
        ("broken.json", "{", "broken.json cannot be read as JSON"),
        ("broken.toml", "[[", "broken.toml cannot be read as TOML"),
        ("wrong.json", '{"own": 3}', "wrong.json: 1 fault"),
        ("bytes.toml", "\udcff", "bytes.toml cannot be read as TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    """A step fails with what to mend, rather than without expectations."""
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigInvalid, match=message):
        loaded(path)


def test_recall_of_both_forms_is_read() -> None:
    """By ground sample distance as it is written now, and one share a label as it was."""
    recall = Recall({"person": 0.8}, ((0.05, {"person": 0.9}), (0.2, {"person": 0.5})))
    assert recall_from(json.loads(json.dumps(asdict(recall)))) == recall
    assert recall_from({"person": 0.8, "car": 0.9}) == Recall({"person": 0.8, "car": 0.9})
