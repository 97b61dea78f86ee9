"""The `vidkd` command: one verb a file, found by its name."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from vidkd.base.cores import sleep_while_waiting
from vidkd.base.errors import MissingExtraError, UnknownFlagError, VidkdError, nearest

if TYPE_CHECKING:
    from vidkd.cli.verb_parser import VerbParser

VERBS = {
    "train": "train a network or distil one into another, from a config",
    "evaluate": "judge a network on a subset",
    "predict": "classify videos over time and as clips, or say along a video or a camera what comes next",
    "detect": "run a detector over videos, image sequences or cameras; resumes after a kill",
    "tkd": "a light detector learns along videos from a heavy oracle that is asked on few key frames",
    "train_selector": "train an LSTM that chooses those key frames",
    "compress": "make a trained student smaller, step by step, each step judged",
    "export": "write a classifier or a detector to a file that runs without torch, checked, with a model card",
    "study": "run a study of methods with intervals; check committed results",
    "benchmark": "measure speed against accuracy: models in turn, with intervals; find regressions",
    "prepare_data": "turn a data set as it unpacks into a checked manifest; check videos; store their flow",
    "make_data": "write the embedded data set as real video files",
    "config": "list the configurations that come with vidkd, or copy one",
}

TRAINING_PACKAGES = ("torch", "torchvision", "pytorchvideo", "timm", "lightning_fabric", "rich", "safetensors")
"""What may be missing where vidkd was installed without its dependencies, to run exported files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors meant for the user are printed without a traceback, exit code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from vidkd import __version__

        sys.stdout.write(f"vidkd {__version__}\n")
        return 0
    verb = argv[0].replace("-", "_")
    if verb not in VERBS:
        close = nearest(verb, VERBS, cutoff=0.65)
        further = f"  did you mean : vidkd {close}\n  all verbs    : vidkd --help\n" if close else f"\n{_usage()}"
        sys.stderr.write(f"vidkd: unknown verb '{argv[0]}'\n{further}")
        return 2
    return run_verb(verb, argv[1:])


def run_verb(verb: str, argv: Sequence[str] | None = None) -> int:
    """Run `vidkd <verb>` with the arguments given (default: the process's own); what tools/<verb>.py calls."""
    sleep_while_waiting()
    parser, module, words = open_verb(verb, sys.argv[1:] if argv is None else argv)
    try:
        given = parser.read(words)
        _log_to_stderr()
        return int(module.run(given))
    except UnknownFlagError as error:  # where settings are read, the flags of the verb are not known
        sys.stderr.write(f"vidkd: {error.among(parser.flags())}\n")
        return 2
    except VidkdError as error:
        sys.stderr.write(f"vidkd: {error}\n")
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING_PACKAGES:
            raise
        what = f"`{parser.prog}` needs the package {package}, which is not installed here"
        missing = MissingExtraError(what, hint=f"install vidkd with what it depends on (without --no-deps), or {package}")
        sys.stderr.write(f"vidkd: {missing}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("vidkd: interrupted\n")
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough (| head)
        from vidkd.cli.outputs import drop_output

        drop_output()
        return 141


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(format="vidkd: %(message)s", stream=sys.stderr)
    logging.getLogger("vidkd").setLevel(logging.INFO)  # of libraries, only warnings


def open_verb(verb: str, argv: Sequence[str] = ()) -> "tuple[VerbParser, ModuleType, list[str]]":
    """The parser and the module of a verb, or of a part of it that the first word names, and the words behind."""
    from vidkd.cli.verb_parser import VerbParser

    words = list(argv)
    module = importlib.import_module(f"vidkd.cli.{verb}")
    if words and words[0] in getattr(module, "PARTS", ()):
        part = words.pop(0)
        module, verb = importlib.import_module(f"vidkd.cli.{verb}_{part}"), f"{verb} {part}"
    return VerbParser(module.Settings, prog=f"vidkd {verb}", description=module.__doc__), module, words


def _usage() -> str:
    rows = "\n".join(f"  {verb:<20} {what}" for verb, what in VERBS.items())
    return f"usage: vidkd VERB [arguments]      (vidkd VERB --help lists the arguments)\n\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
