"""The parser of a verb: flags that nobody knows are told with the one that may be meant."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from vidkd.base.errors import UnknownFlagError, nearest_flag


class VerbParser(argparse.ArgumentParser):
    """argparse's, without abbreviations. takes_settings: flags that it does not know may be settings of a configuration.

    Where something is missing or too much, and a flag was given that is none, that flag is the error: UnknownFlagError.
    """

    def __init__(self, *, takes_settings: bool = False, **given: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given)
        self.takes_settings = takes_settings
        self._words: Sequence[str] = ()

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
        flags = re.findall(r"--[\w-]+", message)
        if "required" in message and flags and self._words and not self._words[0].startswith("-"):
            message += f"\ndid you mean: {self.prog} {flags[0]} {self._words[0]}"
        super().error(message)

    def _strange(self) -> list[str]:
        """Flags among the words that are none of this verb."""
        words = list(self._words)
        flags = [word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]]
        return [flag for flag in flags if re.match(r"--?[A-Za-z]", flag) and flag not in self._option_string_actions]
