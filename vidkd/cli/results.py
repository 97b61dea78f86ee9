"""Write docs/results.md from the committed cells of all studies, and the kept summaries of benchmarks and of recipes of compression."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--studies", default="configs/studies", metavar="DIR", help="folder of study files (default: configs/studies)")
    parser.add_argument("--results", default="results", metavar="DIR", help="folder of finished cells (default: results)")
    parser.add_argument("--out", default="docs/results.md", metavar="F", help="page to write (default: docs/results.md)")


def run(arguments: argparse.Namespace) -> int:
    """Generate the page."""
    from vidkd.base.files import atomic_write
    from vidkd.bench.results_page import results_page
    from vidkd.bench.single_runs_page import single_runs_page
    from vidkd.bench.streams.page import streams_page

    studies, results = Path(arguments.studies), Path(arguments.results)
    text = results_page(studies, results) + streams_page(studies / "streams", results) + single_runs_page(results)
    with atomic_write(arguments.out) as file:
        file.write(text)
    sys.stdout.write(f"written: {arguments.out}\n")
    return 0
