"""Arguments that the verbs with a configuration share."""

import argparse
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidkd.engine.settings import Settings

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


def _readable(text: str) -> str:
    """A parser's help without its list of all flags, the flags of whole groups, and choices that stand there twice."""
    _, _, listed = text.partition("\n\n")
    listed = re.sub(r"\n  --[\w.]+ CONFIG\s+Path to a configuration file\.", "", listed)
    return re.sub(r"\(type:[^()]*Literal\[[^()]*,\s+default:", "(default:", listed)
