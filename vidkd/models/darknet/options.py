"""The options of one section of a cfg, read strictly: each by name and type, and none left over."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vidkd.base.errors import ConfigError, unknown_name

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Option:
    """The text of an option and the line that it stands in."""

    text: str
    line: int


@dataclass
class Options:
    """One section while it is read. Every reading method raises ConfigError with `file:line` for a value that cannot be used."""

    section: str
    path: str
    line: int
    given: dict[str, Option]
    asked: set[str] = field(default_factory=set)

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`; without a default the option must be there."""
        option = self._take(name, required=default is None)
        if option is None:
            assert default is not None
            return default
        value = self._whole(name, option, option.text)
        if value < least:
            raise self._wrong(name, option, f"must be at least {least}")
        return value

    def index(self, name: str) -> int:
        """A layer, which may be counted back from here."""
        option = self._required(name)
        return self._whole(name, option, option.text)

    def indices(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """Whole numbers with commas between them."""
        option = self._take(name, required=default is None)
        if option is None:
            return tuple(default or ())
        return tuple(self._whole(name, option, text) for text in _parts(option.text))

    def flag(self, name: str) -> bool:
        """0 or 1; 0 where it is not given."""
        option = self._take(name, required=False)
        if option is not None and option.text not in ("0", "1"):
            raise self._wrong(name, option, "must be 0 or 1")
        return option is not None and option.text == "1"

    def number(self, name: str, default: float, *, least: float) -> float:
        """A number of at least `least`."""
        option = self._take(name, required=False)
        if option is None:
            return default
        value = self._real(name, option, option.text)
        if value < least:
            raise self._wrong(name, option, f"must be at least {least:g}")
        return value

    def pairs(self, name: str) -> tuple[tuple[float, float], ...]:
        """Numbers above 0 with commas between them, two by two."""
        option = self._required(name)
        values = [self._real(name, option, text) for text in _parts(option.text)]
        if len(values) % 2 or min(values) <= 0:
            raise self._wrong(name, option, "must be pairs of numbers above 0: width, height, width, height")
        return tuple(zip(values[::2], values[1::2], strict=True))

    def one_of(self, name: str, known: Sequence[Name], default: Name) -> Name:
        """One of the known names."""
        option = self._take(name, required=False)
        if option is None:
            return default
        for candidate in known:
            if candidate == option.text:
                return candidate
        raise unknown_name(name, option.text, known, where=self.where(option.line))

    def refuse(self, name: str, neutral: float, reason: str) -> None:
        """Raise ConfigError if the option has a value other than the one that changes nothing."""
        option = self._take(name, required=False)
        if option is not None and self._real(name, option, option.text) != neutral:
            raise ConfigError(f"{name}={option.text} in [{self.section}] is not supported: {reason}", where=self.where(option.line))

    def rest(self, training: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The options not asked for, which must be those of training. Raises ConfigError for any other, naming the nearest."""
        known = set(training)
        left = {name: option for name, option in self.given.items() if name not in self.asked}
        for name, option in left.items():
            if name not in known:
                raise unknown_name(f"option of [{self.section}]", name, known | self.asked, where=self.where(option.line))
        return tuple((name, option.text) for name, option in left.items())

    def where(self, line: int | None = None) -> str:
        """`file:line` of a line of this section, by default its first."""
        return f"{self.path}:{line or self.line}"

    def _take(self, name: str, *, required: bool) -> Option | None:
        self.asked.add(name)
        option = self.given.get(name)
        if option is None and required:
            raise ConfigError(f"[{self.section}] has no '{name}'", where=self.where())
        return option

    def _required(self, name: str) -> Option:
        option = self._take(name, required=True)
        assert option is not None
        return option

    def _whole(self, name: str, option: Option, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise self._wrong(name, option, "must be a whole number") from None
        if abs(value) >= 2**31:
            raise self._wrong(name, option, "must be a number of 32 bits")
        return value

    def _real(self, name: str, option: Option, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._wrong(name, option, "must be a number")
        return value

    def _wrong(self, name: str, option: Option, must: str) -> ConfigError:
        return ConfigError(f"{name} of [{self.section}] {must}, not '{option.text}'", where=self.where(option.line))


def _parts(text: str) -> list[str]:
    """The items of a list; a comma at its end is allowed, as darknet does."""
    return [part.strip() for part in text.removesuffix(",").split(",")]
