"""The guides name only what exists: pages, settings, commands and examples that are taken as they stand."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from outwatch.cli import app
from outwatch.domain.sensors import parse_sensors
from outwatch.settings import Settings, _leaves

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in GUIDES}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_lead_somewhere(guide: Path) -> None:
    """Each link to a file of ours finds it from where the page lies."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXTS[guide])
    assert [target for target in targets if not (guide.parent / target).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_variables_are_settings(guide: Path) -> None:
    """What looks like a setting of the environment is one; `OUTWATCH_TEST_…` steer tests alone."""
    named = set(re.findall(r"\bOUTWATCH_[A-Z0-9_]*[A-Z0-9]\b(?!_)", TEXTS[guide]))
    named = {name for name in named if not name.startswith("OUTWATCH_TEST_")}
    assert named - {f"OUTWATCH_{'__'.join(leaf)}".upper() for leaf in _leaves(Settings)} == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_commands_and_their_options_exist(guide: Path) -> None:
    """Of each `outwatch COMMAND …` in a code span or block, the command and its long options."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    spans = re.findall(r"`([^`\n]+)`", TEXTS[guide])
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", TEXTS[guide], re.DOTALL)
    for text in [*spans, *"\n".join(blocks).splitlines()]:
        for name, rest in re.findall(r"(?:^|[ /])outwatch ([a-z]+(?:-[a-z]+)*)\b([^|;#]*)", text):
            assert name in commands, text
            inner = getattr(commands[name], "commands", {}).values()
            parameters = [item for command in (commands[name], *inner) for item in command.params]
            known = {option for parameter in parameters for option in parameter.opts}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) - known == set(), text


def test_examples_of_settings_are_taken() -> None:
    """Every TOML block is a settings file that is valid by itself."""
    blocks = [block for text in TEXTS.values() for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert blocks
    for block in blocks:
        Settings(**tomllib.loads(block))


def test_the_registry_of_the_guide_is_taken() -> None:
    """One sensor, with all of its properties."""
    (block,) = re.findall(r"```json\n(.*?)```", TEXTS[ROOT / "docs" / "sensors.md"], re.DOTALL)
    assert len(parse_sensors(json.loads(block), source="guide").sensors) == 1
