# ruff: noqa: INP001  a script that the Dockerfile runs by its path, not part of a package
"""Fail the image's build unless our top-level packages are ours alone.

They are installed flat, under names as plain as ``storage``. Another distribution that ships one of
them would overwrite our files, and nothing else would say so. Run by docker/Dockerfile.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions

DISTRIBUTION = "outwatch"
PACKAGES = ("ingest", "detection", "storage", "alerting", "dags", "outwatch")


def conflicts(owners: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence for each of our packages that is not owned by our distribution alone.

    Args:
        owners: distributions by top-level package, as ``packages_distributions`` gives them.
    """
    found = {name: sorted(set(owners.get(name, ()))) for name in PACKAGES}
    return [
        f"package {name!r}: expected only the distribution {DISTRIBUTION!r}, found {', '.join(who) or 'none'}"
        for name, who in found.items()
        if who != [DISTRIBUTION]
    ]


def main() -> int:
    """Print what is wrong and return the exit code."""
    wrong = conflicts(packages_distributions())
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
