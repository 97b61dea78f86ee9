"""List what is worse in the second of two benchmarks than in the first, beyond the intervals.

Exit code 1 if something got worse, is missing, or moved in the wrong direction without an interval.

  vidkd benchmark compare A/summary.json B/summary.json
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vidkd.base.errors import DataError
from vidkd.base.fields import Bounds
from vidkd.cli.verb_parser import positional


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared.

    Args:
        first: the summary.json of a benchmark.
        second: that of another.
        tolerance: share by which a figure may differ beyond the intervals.
    """

    first: Path = positional("A.json")
    second: Path = positional("B.json")
    tolerance: Annotated[float, Bounds(ge=0)] = 0.0


def run(given: Settings) -> int:
    """Compare, and list what differs."""
    from vidkd.base.files import near_files
    from vidkd.bench.speed.compare import compare
    from vidkd.bench.summary import read_summary

    for path in (given.first, given.second):
        if not path.is_file():
            hint = "name the summary.json in the folder of a benchmark; vidkd benchmark --config BENCHMARK.yaml writes it"
            raise DataError(f"not a file: {path}", **near_files(path, (".json",)), hint=hint)
    changes = compare(read_summary(given.first), read_summary(given.second), tolerance=given.tolerance)
    sys.stdout.write("".join(f"  {change}\n" for change in changes if change.verdict != "same"))
    sys.stdout.write(", ".join(f"{count} {verdict}" for verdict, count in Counter(change.verdict for change in changes).items()) + "\n")
    return int(any(change.is_regression for change in changes))
