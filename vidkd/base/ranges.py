"""Ranges of settings, in words."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from vidkd.base.errors import ConfigError

RANGES: Mapping[str, Callable[[float], bool]] = {
    "above 0": lambda value: 0 < value < math.inf,
    "0 or more": lambda value: 0 <= value < math.inf,
    "at least 1": lambda value: value >= 1,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
}


def check_ranges(config: Any, section: str, **ranges: str) -> None:
    """Raise ConfigError, naming `section.key`, for a setting outside its range, a name of RANGES; None is in every range."""
    for key, words in ranges.items():
        value = getattr(config, key)
        if value is not None and not RANGES[words](value):
            raise ConfigError(f"{section + '.' if section else ''}{key} must be {words}, not {value:g}")
