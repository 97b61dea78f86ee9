"""A verb's settings: a frozen dataclass, read from flags and from `--config FILE`; a flag that is unknown is named with the nearest one."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

from vidkd.base.errors import ConfigError, UnknownFlagError, nearest_flag
from vidkd.base.fields import dataclass_in, field_help, field_types, is_list, options

POSITIONAL = "positional"
FURTHER = "settings"
"""The field of a verb's settings that takes flags of a run's, as words."""
LISTED = "list_settings"
"""The field of the flag --settings."""


def positional(metavar: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is given without a flag: one value, or of a tuple all words that belong to no flag."""
    return dataclasses.field(default=default, metadata={POSITIONAL: metavar})


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, without its import of shutil: the width of the terminal is asked of the system, 80 where there is none."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() else 80
        with contextlib.suppress(OSError):
            width = width if columns else os.get_terminal_size().columns
        super().__init__(prog, width=width - 2)


class VerbParser(argparse.ArgumentParser):
    """argparse's, without abbreviations, with a flag for each field of `kind`, the verb's dataclass; its docstring is the help.

    Where there is a field `settings`, or one that holds settings and the flag --settings lists them, other flags are settings:
    `--data.root DIR`.
    """

    def __init__(self, kind: Any, **given: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **given)
        self.kind, self.takes_settings = kind, False
        self._lists: dict[str, str] = {}  # flags of lists, and the fields that they set
        for entry in dataclasses.fields(kind):
            self._add_field(entry, field_types(kind)[entry.name], field_help(kind).get(entry.name, ""))
        if "config" not in field_types(kind):
            self.add_argument("--config", metavar="F", help="YAML file of these settings")

    def _add_field(self, entry: "dataclasses.Field[Any]", hint: Any, text: str, prefix: str = "") -> None:
        if entry.name == FURTHER or (dataclass_in(hint) is not None and LISTED in field_types(self.kind)):
            self.takes_settings = True
            return
        if dataclasses.is_dataclass(hint):
            for part in dataclasses.fields(hint):
                self._add_field(part, field_types(cast(Any, hint))[part.name], text, f"{prefix}{entry.name}.")
            return
        given: dict[str, Any] = {"default": argparse.SUPPRESS, "help": f"{text}{_default_text(entry)}".replace("%", "%%")}
        flag = "--settings" if entry.name == LISTED else f"--{prefix or entry.name.replace('_', '-')}{entry.name if prefix else ''}"
        if bool in options(hint):
            given["action"] = argparse.BooleanOptionalAction if entry.default is True else "store_const"
            given |= {} if entry.default is True else {"const": True}
        else:
            choices = [str(value) for part in options(hint) if get_origin(part) is Literal for value in get_args(part)]
            metavar = f"{{{','.join(choices)}}}" if choices else entry.name.split("_")[-1].upper()
            given["metavar"] = entry.metadata.get(POSITIONAL, metavar)
        if POSITIONAL in entry.metadata:
            self.add_argument(entry.name, nargs="*" if is_list(hint) else "?", **given)
        else:
            self._lists |= {flag: f"{prefix}{entry.name}"} if is_list(hint) else {}
            self.add_argument(flag, dest=f"{prefix}{entry.name}", **given | ({"action": "append"} if is_list(hint) else {}))

    def read(self, argv: Sequence[str]) -> Any:
        """The verb's settings: its file, and flags over it. Raises ConfigError as `load_settings`, UnknownFlagError."""
        own, rest = self._apart(list(argv))
        arguments, more = self.parse_known_args(own)  # --help ends here, before what reads settings is imported
        from vidkd.base.settings import as_yaml, flatten, load_settings, read_flags
        from vidkd.base.yaml_files import Tree, read_yaml

        rest += more
        given = {name: value for name, value in vars(arguments).items() if value not in (None, [])}
        fields = field_types(self.kind)
        path = None if "config" in fields else given.pop("config", None)
        tree = Tree({}) if path is None else read_yaml(path, inherit=True)
        positional = {entry.name for entry in dataclasses.fields(self.kind) if POSITIONAL in entry.metadata}
        words = []
        for name, value in given.items():
            several = value if isinstance(value, list) and name not in positional else [value]
            words += [f"--{name}={each if isinstance(each, str) else as_yaml(each)}" for each in several]
        self._refuse_stray(rest, given, argv)
        for name in positional:
            if isinstance(given.get(name), list):
                self._refuse_entries(given[name], argv)
        if FURTHER in fields:
            others = {key: value for key, value in tree.content.items() if key not in fields}
            flagged = {flag for flag, _ in read_flags(rest)}
            further = [f"--{key}={as_yaml(value)}" for key, value in flatten(others).items() if f"--{key}" not in flagged]
            content = {key: value for key, value in tree.content.items() if key in fields}
            tree, further = Tree({**content, FURTHER: [*further, *rest]}, tree.places), rest
            rest = []
        else:
            further = rest
        try:
            return load_settings(self.kind, tree, overrides=[*words, *rest], where=str(path or self.prog), of_verb=True)
        except ConfigError as error:
            if not error.what.startswith("missing: "):
                raise
            if LISTED in given:  # nothing else is needed for a list
                needed = [entry.name for entry in dataclasses.fields(self.kind) if entry.default is entry.default_factory]
                return self.kind(**dict.fromkeys(needed), **{LISTED: True})
            raise self._missing(error.what, further, given) from None

    def _missing(self, what: str, further: Sequence[str], given: Mapping[str, Any]) -> ConfigError:
        """The error for what is not given: a flag that is like it, or else its name."""
        wanted = re.findall(r"--[\w.-]+", what)
        for flag in (word.partition("=")[0] for word in further if word.startswith("-")):
            if nearest_flag(flag, wanted):
                return UnknownFlagError.of("flag", flag, wanted, all_flags=f"{self.prog} --help")
        taken = {}
        for entry in dataclasses.fields(self.kind):
            if POSITIONAL in entry.metadata and f"--{entry.name}" in wanted:
                taken = self._taken_by_a_list(given)
            what = what.replace(f"--{entry.name}", entry.metadata.get(POSITIONAL, f"--{entry.name}"))
        return ConfigError(what, **taken, all_flags=f"{self.prog} --help")

    def _taken_by_a_list(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Lines on the flag of a list whose word is the path of something that is there, as the words without a flag are."""
        for flag, name in self._lists.items():
            for word in given.get(name, ()):
                if Path(word).exists():
                    return {"found": f"{flag} took {word}", "hint": f"{self.prog} {word} {flag} A,B"}
        return {}

    def _refuse_entries(self, words: Sequence[str], argv: Sequence[str]) -> None:
        """Raise ConfigError for a bare name after a list's word and among other words without a flag, where no file has that name."""
        for word in words if len(words) > 1 else ():
            if word.isidentifier() and not Path(word).exists() and (joined := self._as_one_word(word, argv)):
                raise ConfigError(f"no file has the name {word}", hint=f"{joined}   (a list is one word, with commas)")

    def _as_one_word(self, word: str, argv: Sequence[str]) -> str:
        """The flag of a list and all words from it to this one as its value; "" where no such flag stands before."""
        end = list(argv).index(word)
        start = max((place for place in range(end) if argv[place].startswith("-")), default=end)
        return f"{argv[start]} {','.join(argv[start + 1 : end + 1])}" if argv[start] in self._lists else ""

    def _refuse_stray(self, rest: Sequence[str], given: Mapping[str, Any], argv: Sequence[str]) -> None:
        """Raise ConfigError for a word that belongs to no flag, UnknownFlagError for a flag of a verb that takes no settings."""
        stray = [word for number, word in enumerate(rest) if not word.startswith("--") and not _is_value(rest, number)]
        if self.takes_settings and not stray:
            return
        if flags := [word for word in rest if word.startswith("-") and not self.takes_settings]:
            raise UnknownFlagError.of("flag", flags[0].partition("=")[0], self.flags(), all_flags=f"{self.prog} --help")
        if stray:
            meant = {"did_you_mean": f"{self.prog} --model {stray[0]}"} if "--model" in self.flags() and "model" not in given else {}
            joined = self._as_one_word(stray[0], argv)
            meant = {"hint": f"{joined}   (a list is one word, with commas)"} if joined else meant
            raise ConfigError(f"unexpected argument: {stray[0]}", **meant, all_flags=f"{self.prog} --help")

    def flags(self) -> list[str]:
        """The long flags of the verb."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _apart(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """The verb's own words, and the settings among them: `--data.root DIR` or `--data.root=DIR`."""
        own: list[str] = []
        settings: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                return [*own, word, *left], settings
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                settings.append(word)
                if "=" not in word and left and not left[0].startswith("--"):
                    settings.append(left.pop(0))
            else:
                own.append(word)
        return own, settings


def _is_value(words: Sequence[str], number: int) -> bool:
    """Whether a word is the value of the flag before it."""
    return number > 0 and words[number - 1].startswith("--") and "=" not in words[number - 1]


def _default_text(entry: "dataclasses.Field[Any]") -> str:
    if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
        return "" if POSITIONAL in entry.metadata else " (required)"
    if entry.default in (None, False, True, "", (), dataclasses.MISSING):
        return ""
    return f" (default: {entry.default})"


def list_settings(kind: type, task: str | None = None) -> int:
    """Print every setting of a configuration of this kind, with this task where it has methods."""
    from vidkd.base.settings import settings_help

    sys.stdout.write(settings_help(kind, task))
    return 0
