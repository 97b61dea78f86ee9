"""List the configurations that come with vidkd, or copy one to change it.

vidkd config ls [WORD]      names, each with the first line of its file
vidkd config cp NAME FILE   a copy; `base: FILE` in another file holds only what differs
--config NAME of any verb reads one without copying it.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidkd.base.errors import ConfigError
from vidkd.cli.verb_parser import positional


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is listed or copied.

    Args:
        action: list names, or copy one.
        name: of ls: only names with this word; of cp: a name as `vidkd config ls` prints it.
        file: of cp: the copy; a file that exists is not replaced.
    """

    action: Literal["ls", "cp"] = positional("ls|cp")
    name: str = positional("NAME", default="")
    file: Path | None = positional("FILE", default=None)


def run(given: Settings) -> int:
    """List, or copy."""
    if given.action == "ls":
        return _list(given.name)
    if given.file is None:
        raise ConfigError("a name and a file are needed", hint="vidkd config cp NAME FILE")
    return _copy(given.name, given.file)


def _list(word: str) -> int:
    from vidkd.base.yaml_files import shipped_config, shipped_names

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
    from vidkd.base.yaml_files import shipped_config

    path = shipped_config(name)
    if file.exists():
        raise ConfigError(f"the file exists: {file}", hint="another FILE")
    with atomic_write(file) as copy:
        copy.write(_with_whole_base(path))
    sys.stdout.write(f"written: {file}\n")
    return 0


def _with_whole_base(path: Path) -> str:
    """The text of a file, with the path of its base from the root, as the copy is in another folder."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^base: (\S+)", lambda found: f"base: {(path.parent / found[1]).resolve()}", text, flags=re.MULTILINE)
