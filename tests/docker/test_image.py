"""What can be known of the image without a Docker engine: its lint, its names check, its entry points."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
CHECK_NAMES = DOCKER / "check_names.py"
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    """Return the path of a linter, or skip where it is not installed."""
    path = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def entrypoint(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the entry point with this environment's programs and stand-ins that print their arguments."""
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"AIRFLOW_HOME": str(folder / "airflow"), "OUTWATCH_HOME": str(folder / "home")}
    return subprocess.run(
        [str(ENTRYPOINT), *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def stand_in(folder: Path, name: str) -> None:
    """Put a program on the path that prints its own name and arguments."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name}: $*"\n')
    path.chmod(0o755)


def test_the_dockerfile_is_clean() -> None:
    """Hadolint finds nothing."""
    found = subprocess.run(
        [tool("hadolint"), str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_entry_point_is_clean() -> None:
    """Bash can read it, ShellCheck finds nothing, and it may be executed."""
    assert os.access(ENTRYPOINT, os.X_OK)
    subprocess.run(["bash", "-n", str(ENTRYPOINT)], check=True)
    found = subprocess.run([tool("shellcheck"), str(ENTRYPOINT)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular_from_pinned_bases() -> None:
    """A numeric user, and no base that moves under us."""
    text = (DOCKER / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)
    assert len(set(bases)) == 1
    assert "HEALTHCHECK" in text


def test_every_copied_path_passes_the_ignore_file() -> None:
    """What the build needs is let in; state, samples and secrets are not."""
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    packages = {"dags", "ingest", "detection", "storage", "alerting", "outwatch"}
    assert packages | {"pyproject.toml", "requirements.lock", "docker/entrypoint.sh"} <= let_in
    assert not [path for path in let_in if ".env" in path or path.startswith(("tests", ".outwatch", ".git"))]
    assert [path for path in let_in if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("role", ["api-server", "scheduler", "dag-processor", "triggerer"])
def test_roles_are_airflows(tmp_path: Path, role: str) -> None:
    """A role runs under Airflow with its arguments."""
    stand_in(tmp_path, "airflow")
    assert entrypoint(role, "--x", "a b", folder=tmp_path).stdout == f"airflow: {role} --x a b\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "outwatch: --help\n"),
        (("--help",), "outwatch: --help\n"),
        (("ingest", "a b.mp4"), "outwatch: ingest a b.mp4\n"),
        (("outwatch", "events"), "outwatch: events\n"),
        (("airflow", "version"), "airflow: version\n"),
        (("health",), "outwatch: --version\n"),
        (("health", "scheduler"), "airflow: jobs check --local --job-type SchedulerJob\n"),
        (("health", "dag-processor"), "airflow: jobs check --local --job-type DagProcessorJob\n"),
    ],
)
def test_other_words_are_commands(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    """Whatever is no role goes to the command line of Outwatch."""
    stand_in(tmp_path, "airflow")
    stand_in(tmp_path, "outwatch")
    assert entrypoint(*words, folder=tmp_path).stdout == expected


def test_migrate_does_airflow_then_outwatch(tmp_path: Path) -> None:
    """Both databases, in that order, and a failure of the second is a failure."""
    stand_in(tmp_path, "airflow")
    stand_in(tmp_path, "python")
    first, second, *_ = entrypoint("migrate", folder=tmp_path).stdout.splitlines()
    assert first == "airflow: db migrate"
    assert second.startswith("python: -c from outwatch.pipeline.wiring import open_pipeline")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    assert entrypoint("migrate", folder=tmp_path).returncode == 3


def test_health_fails_where_nothing_listens_or_the_role_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without its server is unhealthy."""
    monkeypatch.setenv("AIRFLOW__API__PORT", "9")
    assert entrypoint("health", "api-server", folder=tmp_path).returncode == 1
    wrong = entrypoint("health", "kitchen", folder=tmp_path)
    assert wrong.returncode == 2
    assert "found kitchen" in wrong.stderr


def test_the_real_airflow_answers_through_the_entry_point(tmp_path: Path) -> None:
    """No stand-in: the program that the image runs."""
    answer = entrypoint("airflow", "version", folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"^3\.3\.\d+$", answer.stdout, re.MULTILINE)


def test_the_real_cli_answers_through_the_entry_point(tmp_path: Path) -> None:
    """No stand-in: the console script of the installed project."""
    if not (BIN / "outwatch").exists():
        pytest.skip("Outwatch is not installed in this environment, only on its path")
    answer = entrypoint("--help", folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "ingest" in answer.stdout


def check_names(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check on the distributions in one folder alone."""
    return subprocess.run(
        [sys.executable, "-S", str(CHECK_NAMES)],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def install(folder: Path, name: str, *packages: str) -> None:
    """Lay down what installers leave: the packages and a RECORD of them."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{package}/__init__.py,,\n" for package in packages))


OURS = ("ingest", "detection", "storage", "alerting", "dags", "outwatch")


def test_our_names_alone_pass(tmp_path: Path) -> None:
    """Others may install whatever else they like."""
    install(tmp_path, "outwatch", *OURS)
    install(tmp_path, "other", "elsewhere")
    assert check_names(tmp_path).returncode == 0


def test_a_second_owner_fails_by_name(tmp_path: Path) -> None:
    """The message says which package and whose."""
    install(tmp_path, "outwatch", *OURS)
    install(tmp_path, "evil", "storage", "x")
    result = check_names(tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "package 'storage': expected only the distribution 'outwatch', found evil, outwatch\n"
    )


def test_a_missing_package_fails(tmp_path: Path) -> None:
    """A wheel that forgot a stage is not an image."""
    install(tmp_path, "outwatch", *OURS[1:])
    result = check_names(tmp_path)
    assert result.returncode == 1
    assert "package 'ingest'" in result.stderr
    assert "found none" in result.stderr


def test_the_check_and_the_wheel_name_the_same_packages() -> None:
    """A new top-level package is checked from its first day."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    spec = importlib.util.spec_from_file_location("check_names", CHECK_NAMES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.PACKAGES) == set(wheel["packages"])
