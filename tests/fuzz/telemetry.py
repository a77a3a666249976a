"""Fuzz a telemetry parser with coverage guidance: ``python tests/fuzz/telemetry.py FORMAT [options]``.

A parser may answer any bytes with telemetry or with ``TelemetryInvalid``; anything else is a crash, which
libFuzzer keeps as a file and prints. Seeds are the real samples of that format, where OUTWATCH_SAMPLES is
set. The options are libFuzzer's: ``-max_total_time=300`` runs five minutes, and the path of a kept file runs
it alone. A wrong format is answered with those there are.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from zoneinfo import ZoneInfo

import atheris

with atheris.instrument_imports(include=["ingest", "outwatch"]):
    from ingest.telemetry.sources import HEAD_BYTES, SOURCES
    from outwatch.domain.errors import TelemetryInvalid

ZONE = ZoneInfo("Asia/Karachi")
MAX_SEED_BYTES = 20_000
"""A longer seed slows the fuzzer more than it teaches it."""


def main(arguments: list[str]) -> None:
    """Fuzz the parser that the first argument names, for as long as the others say."""
    name, *options = arguments or [""]
    source = next((source for source in SOURCES if source.format == name), None)
    if source is None:
        raise SystemExit(f"no format {name!r}: expected one of {', '.join(each.format for each in SOURCES)}")

    def one(data: bytes) -> None:
        source.recognises(data[:HEAD_BYTES])
        try:
            source.read(data, zone=ZONE)
        except TelemetryInvalid:
            return

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as corpus:
        write_seeds(Path(corpus), name)
        seeds = [corpus] if all(option.startswith("-") for option in options) else []
        atheris.Setup([sys.argv[0], *seeds, "-max_len=65536", "-timeout=20", *options], one)
        atheris.Fuzz()


def write_seeds(corpus: Path, name: str) -> None:
    """Put the head of every real sample of a format into the corpus."""
    samples = os.environ.get("OUTWATCH_SAMPLES")
    files = Path(samples, "telemetry").rglob("*") if samples else []
    for number, path in enumerate(file for file in files if file.is_file()):
        data = path.read_bytes()
        found = next((source for source in SOURCES if source.recognises(data[:HEAD_BYTES])), None)
        if found is not None and found.format == name:
            (corpus / f"seed-{number}").write_bytes(data[:MAX_SEED_BYTES])


if __name__ == "__main__":
    main(sys.argv[1:])
