"""Flags that take a number of a known range: one out of it is refused while flags are read, by the name of the flag."""

import argparse
import math
from typing import Any

from vidkd.base.errors import ConfigError


class Number:
    """Reads the value of a flag: whole or finite, at least `least`, above `above`, at most `most`.

    Raises ValueError for a text that is no number, as argparse expects, and ConfigError for a number out of the range.
    """

    def __init__(
        self, flag: str, *, whole: bool = False, least: float | None = None, above: float | None = None, most: float | None = None
    ) -> None:
        self._flag, self._whole, self._least, self._above, self._most = flag, whole, least, above, most
        self.__name__ = "whole number" if whole else "number"  # argparse: invalid number value: 'x'

    def __call__(self, text: str) -> float:
        """The number of a text."""
        value = int(text) if self._whole else float(text)
        low = (self._least is None or value >= self._least) and (self._above is None or value > self._above)
        if not (math.isfinite(value) and low and (self._most is None or value <= self._most)):
            raise ConfigError(f"{self._flag} must {self._range()}, not {value if self._whole else f'{value:g}'}")
        return value

    def _range(self) -> str:
        if self._most is not None:
            begin = f"({self._above:g}" if self._above is not None else f"[{self._least:g}"
            return f"lie in {begin}, {self._most:g}]"
        if self._above is not None:
            return f"be above {self._above:g}"
        return "be finite" if self._least is None else f"be at least {self._least:g}"


def add_number(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    flag: str,
    *,
    whole: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    **given: Any,
) -> None:
    """Add a flag that takes a number in [least, most], or (above, most], without an end where none is named. given: as argparse has it."""
    parser.add_argument(flag, type=Number(flag, whole=whole, least=least, above=above, most=most), **given)


def add_count(parser: argparse.ArgumentParser | argparse._ArgumentGroup, flag: str, *, least: int = 1, **given: Any) -> None:
    """Add a flag that takes a whole number from `least` on."""
    add_number(parser, flag, whole=True, least=least, **given)


def add_share(parser: argparse.ArgumentParser | argparse._ArgumentGroup, flag: str, **given: Any) -> None:
    """Add a flag that takes a number in [0, 1]."""
    add_number(parser, flag, least=0, most=1, **given)
