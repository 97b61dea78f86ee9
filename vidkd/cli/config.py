"""List the configurations that come with vidkd, or copy one to change it.

vidkd config ls [WORD]      names, each with the first line of its file
vidkd config cp NAME FILE   a copy; `base: FILE` in another file holds only what differs
--config NAME of any verb reads one without copying it.
"""

import argparse
import re
import sys
from pathlib import Path

from vidkd.base.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|cp")
    listed = actions.add_parser("ls", help="list all names, or those with WORD in them")
    listed.add_argument("word", nargs="?", default="", metavar="WORD")
    copied = actions.add_parser("cp", help="copy one")
    copied.add_argument("name", metavar="NAME", help="as `vidkd config ls` prints it")
    copied.add_argument("file", type=Path, metavar="FILE", help="the copy; a file that exists is not replaced")


def run(arguments: argparse.Namespace) -> int:
    """List, or copy."""
    return _list(arguments.word) if arguments.action == "ls" else _copy(arguments.name, arguments.file)


def _list(word: str) -> int:
    from vidkd.base.shipped import shipped_config, shipped_names

    names = [name for name in shipped_names() if word in name]
    width = max(map(len, names), default=0)
    for name in names:
        sys.stdout.write(f"{name:<{width}}  {_about(shipped_config(name))}\n".rstrip() + "\n")
    if not names:
        raise ConfigError(f"no shipped config has '{word}' in its name", all_names="vidkd config ls")
    return 0


def _about(path: Path) -> str:
    """What a file is for: the first line of its comment that is no command."""
    comment = [line.lstrip("# ").strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line for line in comment if line and not line.startswith(("vidkd ", "make "))), "")


def _copy(name: str, file: Path) -> int:
    from vidkd.base.files import atomic_write
    from vidkd.base.shipped import shipped_config
    from vidkd.cli.outputs import written_or_refused

    path = shipped_config(name)
    if file.exists():
        raise ConfigError(f"the file exists: {file}", hint="another FILE")
    with written_or_refused("FILE", file), atomic_write(file) as copy:
        copy.write(_with_whole_base(path))
    sys.stdout.write(f"written: {file}\n")
    return 0


def _with_whole_base(path: Path) -> str:
    """The text of a file, with the path of its base from the root, as the copy lies elsewhere."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^base: (\S+)", lambda found: f"base: {(path.parent / found[1]).resolve()}", text, flags=re.MULTILINE)
