"""A verb's settings: a frozen dataclass, read from flags and from `--config FILE`; a flag that is unknown is named with the nearest one."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, cast, get_args, get_origin

from vidkd.base.errors import ConfigError, UnknownFlagError, nearest_flag
from vidkd.base.records import dataclass_in, field_types, is_list, options

POSITIONAL = "positional"
FURTHER = "settings"
"""The field of a verb's settings that takes flags of a run's, as words."""
LISTED = "list_settings"
"""The field of the flag --settings."""


def positional(metavar: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is given without a flag: one value, or of a tuple all words that belong to no flag."""
    return dataclasses.field(default=default, metadata={POSITIONAL: metavar})


class VerbParser(argparse.ArgumentParser):
    """argparse's, without abbreviations, with a flag for each field of `kind`, the verb's dataclass; its docstring is the help.

    Where there is a field `settings`, or one that holds settings and the flag --settings lists them, other flags are settings:
    `--data.root DIR`. Where something is missing
    or too much, and a flag was given that is none, that flag is the error: UnknownFlagError.
    """

    def __init__(self, *, kind: Any = None, takes_settings: bool = False, **given: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given)
        self.kind, self.takes_settings = kind, takes_settings
        self._words: Sequence[str] = ()
        if kind is not None:
            from vidkd.base.settings import field_help

            help_of = field_help(kind)
            for entry in dataclasses.fields(kind):
                self._add_field(entry, field_types(kind)[entry.name], help_of.get(entry.name, ""))
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
            self.add_argument(flag, dest=f"{prefix}{entry.name}", **given | ({"nargs": "+", "action": "extend"} if is_list(hint) else {}))

    def read(self, argv: Sequence[str]) -> Any:
        """The verb's settings: its file, and flags over it. Raises ConfigError as `load_settings`."""
        from vidkd.base.settings import as_yaml, flatten, load_settings
        from vidkd.base.yaml_files import Tree, read_yaml

        arguments, rest = self.parse_known_args(argv)
        given = {name: value for name, value in vars(arguments).items() if value not in (None, [])}
        fields = field_types(self.kind)
        path = None if "config" in fields else given.pop("config", None)
        tree = Tree({}) if path is None else read_yaml(path, inherit=True)
        others = {key: value for key, value in tree.content.items() if key not in fields}
        words = [f"--{name}={value if isinstance(value, str) else as_yaml(value)}" for name, value in given.items()]
        self._refuse_stray(rest, given)
        if FURTHER in fields:
            own = {key: value for key, value in tree.content.items() if key in fields}
            further = [f"--{key}={as_yaml(value)}" for key, value in flatten(others).items()]
            tree, rest = Tree({**own, FURTHER: [*further, *rest]}, tree.places), []
        try:
            return load_settings(self.kind, tree, overrides=[*words, *rest], where=str(path or self.prog), of_verb=True)
        except ConfigError as error:
            if not error.what.startswith("missing: "):
                raise
            wanted = re.findall(r"--[\w.-]+", error.what)
            if LISTED in given:  # nothing else is needed for a list
                needed = [entry.name for entry in dataclasses.fields(self.kind) if entry.default is entry.default_factory]
                return self.kind(**dict.fromkeys(needed), **{LISTED: True})
            for flag in self._strange():
                if nearest_flag(flag, wanted):
                    raise UnknownFlagError.of("flag", flag, wanted, all_flags=f"{self.prog} --help") from None
            what = error.what
            for entry in dataclasses.fields(self.kind):
                what = what.replace(f"--{entry.name}", entry.metadata.get(POSITIONAL, f"--{entry.name}"))
            raise ConfigError(what, all_flags=f"{self.prog} --help") from None

    def _refuse_stray(self, rest: Sequence[str], given: Mapping[str, Any]) -> None:
        """End for a word that belongs to no flag, or a flag that is unknown."""
        stray = [word for number, word in enumerate(rest) if not word.startswith("--") and not _is_value(rest, number)]
        if self.takes_settings and not stray:
            return
        if flags := [word for word in rest if word.startswith("-") and not self.takes_settings]:
            raise UnknownFlagError.of("flag", flags[0].partition("=")[0], self.flags(), all_flags=f"{self.prog} --help")
        if stray:
            meant = {"did_you_mean": f"{self.prog} --model {stray[0]}"} if "--model" in self.flags() and "model" not in given else {}
            raise ConfigError(f"unexpected argument: {stray[0]}", **meant, all_flags=f"{self.prog} --help")

    def flags(self) -> list[str]:
        """The long flags of the verb."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse; remembers the words for `error`. Settings keep the values behind them, which are no argument of the verb."""
        self._words = list(sys.argv[1:] if args is None else args)
        if not self.takes_settings:
            return super().parse_known_args(self._words, namespace)
        own, settings = self._apart(self._words)
        found, further = super().parse_known_args(own, namespace)
        return found, [*settings, *further]

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

    def error(self, message: str) -> NoReturn:
        """Raise UnknownFlagError if that is what went wrong, else end as argparse does."""
        if not message.startswith("argument "):  # not of the value of a flag that is known
            # a verb with settings leaves what it does not know to them, if it cannot be what is missing here
            wanted = re.findall(r"--[\w-]+", message) if self.takes_settings else self.flags()
            for flag in self._strange():
                if not self.takes_settings or nearest_flag(flag, wanted):
                    raise UnknownFlagError.of("flag", flag, wanted, all_flags=f"{self.prog} --help")
        super().error(message)

    def _strange(self) -> list[str]:
        """Flags among the words that are none of this verb."""
        words = list(self._words)
        flags = [word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]]
        return [flag for flag in flags if re.match(r"--?[A-Za-z]", flag) and flag not in self._option_string_actions]


def _is_value(words: Sequence[str], number: int) -> bool:
    """Whether a word is the value of the flag before it."""
    return number > 0 and words[number - 1].startswith("--") and "=" not in words[number - 1]


def _default_text(entry: "dataclasses.Field[Any]") -> str:
    if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
        return "" if POSITIONAL in entry.metadata else " (required)"
    if entry.default in (None, False, True, "", (), dataclasses.MISSING):
        return ""
    return f" (default: {entry.default})"
