"""Measure what finding events in footage costs: the plain way, one pass and two passes, in one run.

Run ``python -m benchmarks.speed [--quick] [--clip NAME]… [--work DIR] [--out FILE]``. Belongs here: the
measurement. Not here: the footage (``footage.py``), the plain way (``plain.py``), the chart (``chart.py``).

Each way runs in a fresh process, from a landed clip to written events. Processor seconds are user and system
time of that process and all its children, as the kernel counts them; memory is the greatest sum of resident
sizes over the tree, sampled, so that what processes share counts for each. Wall time says little where other
programs run: compare processor seconds, and these as ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.footage import CAMERA, FPS, LARGE, LONG, QUICK, WORKS, Footage, described, footage
from benchmarks.plain import find_plainly, ultralytics_layout
from detection.model_card import ModelCard
from outwatch.domain.types import Modality
from outwatch.evaluation.clips import TrueClip, clip_result
from outwatch.evaluation.runs import ClipRun
from outwatch.pipeline import landing, queries, runner, steps, wiring
from outwatch.settings import SensorSettings, Settings, load_settings

PLAIN, ONE, TWO = WAYS = ("plain", "one", "two")
VID_STRIDE = FPS // 2
"""Frames from look to look of the plain way: two looks a second, as Outwatch takes."""
SAMPLE_S = 0.1
"""Between samples of memory: a decoder and a model live for seconds."""
RESULTS = Path(__file__).with_name("results.json")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LIBRARIES = ("openvino", "av", "opencv-python", "ultralytics", "torch")


@dataclass(frozen=True, slots=True)
class Task:
    """One way with one clip, in a folder of its own."""

    way: str
    made: Footage
    model: Path
    folder: Path

    @property
    def settings(self) -> Settings:
        """Return settings that keep everything within the folder and use the given model."""
        mine = load_settings()
        # The declared camera is one for daylight, and decides which of the two looks.
        weights = {"thermal_weights": self.model, "rgb_weights": self.model}
        passes = {"passes": ONE if self.way == ONE else TWO, **weights}
        return load_settings(
            home=self.folder,
            store_url="",
            database_url="",
            outposts=self.made.outposts,
            sensors=SensorSettings(),
            alerts=mine.alerts.model_copy(update={"channels": ("log",)}),
            detection=mine.detection.model_copy(update=passes),
            ground=mine.ground.model_copy(update={"dem": None, "calibrations": self.made.calibrations}),
        )


def prepare(task: Task) -> None:
    """Do what is not measured: land the clip; for the plain way also register it, and lay the model out."""
    with wiring.open_pipeline(task.settings) as pipeline:
        landing.land(pipeline, [task.made.video], declared={"camera": CAMERA})
        if task.way == PLAIN:
            for upload in steps.open_subjects(pipeline, "ingest_footage"):
                steps.ingest_footage(pipeline, upload)
    if task.way == PLAIN:
        ultralytics_layout(task.model, out=task.folder)


def work(task: Task) -> dict[str, Any]:
    """Do what is measured; return the processor seconds of each step and what failed."""
    marks: list[tuple[str, float]] = [("start", 0.0)]
    failures: list[str] = []
    with wiring.open_pipeline(task.settings) as pipeline:
        if task.way == PLAIN:
            marks.append(("track", _cpu_s()))
            model = next(task.folder.glob("*_openvino_model"))
            clip = pipeline.ledger.clips()[0]
            find_plainly(pipeline, clip, video=task.made.video, model=model, vid_stride=VID_STRIDE)
        else:

            def watch(step: str, _: str, done_s: float | None) -> None:
                if done_s is None:
                    marks.append((step, _cpu_s()))

            report = runner.run_open_work(pipeline, watch=watch)
            failures = [f"{item.step}: {item.error}" for item in report.failures]
    ends = [at for _, at in marks[1:]] + [_cpu_s()]
    steps_cpu_s: dict[str, float] = {}
    for (name, began), ended in zip(marks, ends, strict=True):
        steps_cpu_s[name] = round(steps_cpu_s.get(name, 0.0) + ended - began, 2)
    return {"steps_cpu_s": steps_cpu_s, "failures": failures}


def _cpu_s() -> float:
    """Return the processor seconds of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(task: Task) -> dict[str, Any]:
    """Prepare a task, run it in a fresh process and return what it cost and found."""
    task.folder.mkdir(parents=True)
    prepare(task)
    told = task.folder / "told.json"
    cost = _run(
        ["--child", task.way, task.made.work.name, str(task.model), str(task.folder), str(told)], task
    )
    report = json.loads(told.read_text(encoding="utf-8"))
    with wiring.open_pipeline(task.settings) as pipeline:
        clip = pipeline.ledger.clips()[0]
        slack = timedelta(seconds=clip.clock_uncertainty_s)
        run = ClipRun(tuple(queries.events(pipeline)), clip.started_at, slack, tuple(report["failures"]))
    truth = json.loads(task.made.truth.read_text(encoding="utf-8"))
    result = clip_result(TrueClip(task.made.video, truth), run)
    shutil.rmtree(task.folder)
    return {
        **cost,
        "realtime_per_core": round(task.made.work.duration_s / cost["cpu_s"], 1),
        "events_found": len(result.pairs()),
        "events_missed": len(result.missed()),
        "events_wrong": len(result.wrong()),
        **report,
    }


def _run(arguments: list[str], task: Task) -> dict[str, float]:
    """Run this module as a child and return its processor seconds, wall seconds and peak megabytes."""
    began = time.monotonic()
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(task.folder), "YOLO_OFFLINE": "true"}
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed",
        *arguments,
        "--work",
        str(task.made.video.parents[1]),
    ]
    process = subprocess.Popen(command, env=environment)  # noqa: S603 our own module
    memory = _Memory(process.pid)
    memory.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory.stop()
    if process.returncode:
        raise SystemExit(f"{task.way} on {task.made.work.name} ended with exit code {process.returncode}")
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "peak_mb": round(memory.peak_bytes / 1e6),
    }


class _Memory(threading.Thread):
    """Samples the resident memory of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._pid, self._ended = pid, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident_bytes, _tree(self._pid))))

    def stop(self) -> None:
        """End the sampling."""
        self._ended.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """Return a process and all its descendants; what ended meanwhile has none."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _tree(child))]


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:  # it has ended
        return 0


def compare(made: Footage, *, model: Path, scratch: Path) -> dict[str, Any]:
    """Return a clip with what each way cost and found, and how many times the plain way's cost is theirs."""
    ways: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        ways[way] = measure(Task(way, made, model, scratch / f"{made.work.name}-{way}"))
        print(made.work.name, way, json.dumps(ways[way]), flush=True)
    ratios = {way: round(ways[PLAIN]["cpu_s"] / ways[way]["cpu_s"], 2) for way in (ONE, TWO)}
    return {**described(made), "ways": ways, "plain_costs_times": ratios}


def machine() -> dict[str, Any]:
    """Return on what it was measured."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def main() -> None:
    """Make the footage where it is missing, compare the ways and write the results."""
    parser = argparse.ArgumentParser(description="Measure the cost of finding events in footage.")
    parser.add_argument("--work", type=Path, help="folder for footage and scratch; default: in OUTWATCH_HOME")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="one minute at 720p only")
    parser.add_argument("--clip", action="append", choices=list(WORKS), help="only this one; repeatable")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cache = options.work or load_settings().home_dir / "benchmarks"
    if options.child:
        way, name, model, folder, told = options.child
        task = Task(way, footage(WORKS[name], cache=cache), Path(model), Path(folder))
        Path(told).write_text(json.dumps(work(task)), encoding="utf-8")
        return
    names = [QUICK.name] if options.quick else options.clip or [LONG.name, LARGE.name]
    clips = [footage(WORKS[name], cache=cache) for name in names]
    with tempfile.TemporaryDirectory(prefix="measuring-", dir=cache) as scratch:
        # A copy, so that all ways use the same weights whatever is trained meanwhile.
        model = Path(
            shutil.copytree(wiring.shipped_weights(Modality.THERMAL), Path(scratch) / "thermal_yolo11n")
        )
        results = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "model": ModelCard.read(model).model_id,
            "clips": {made.work.name: compare(made, model=model, scratch=Path(scratch)) for made in clips},
        }
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
