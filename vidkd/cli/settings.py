"""Arguments that the verbs with a configuration share."""

import argparse
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidkd.engine.settings import Settings

REPAIR = "repair"
SETTINGS_HINT = "any setting of the configuration may follow as a flag: --data.root DIR --train.epochs 40   (--settings lists them)"


def add_settings_help(parser: argparse.ArgumentParser) -> None:
    """Add --settings and the hint that settings are flags."""
    parser.add_argument("--settings", dest="list_settings", action="store_true", help="list every setting of the configuration, and stop")
    parser.epilog = SETTINGS_HINT


def list_settings(kind: "type[Settings]", task: str) -> int:
    """Print every setting of a configuration of this kind with this task."""
    from vidkd.engine.settings import settings_parser

    sys.stdout.write(_readable(settings_parser(kind, task).format_help()))
    return 0


def list_steps(kinds: "Mapping[str, type]") -> int:
    """Print every setting of every kind of step of a recipe; those of a repair are a run's, and told where these are."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="steps", add_help=False)
    for name, kind in kinds.items():
        if name != REPAIR:
            parser.add_class_arguments(kind, name)
    text = re.sub(r"^  --", "  ", _readable(parser.format_help()), flags=re.MULTILINE)
    sys.stdout.write(f"prune.ratio is the key `ratio` of a step, which a recipe holds as `- prune: {{ratio: 0.5}}`.\n\n{text}\n")
    sys.stdout.write(
        f"Training of what is left:\n  {REPAIR}.*   settings of a run, as `vidkd train --settings` lists them, and `teacher: original`\n"
    )
    return 0


def _readable(text: str) -> str:
    """A parser's help without its list of all flags, the flags of whole groups, and choices that stand there twice."""
    _, _, listed = text.partition("\n\n")
    listed = re.sub(r"\n  --[\w.]+ CONFIG\s+Path to a configuration file\.", "", listed)
    return re.sub(r"\(type:[^()]*Literal\[[^()]*,\s+default:", "(default:", listed)
