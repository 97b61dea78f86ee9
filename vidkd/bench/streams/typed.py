"""Settings dataclasses from the plain values of a YAML file."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidkd.base.errors import ConfigError
from vidkd.base.settings import load_settings
from vidkd.base.yaml_files import merge

Built = TypeVar("Built")


def read_spec(kind: type[Built], path: Path) -> Built:
    """A study's file as its dataclass. Raises ConfigError with file and key for anything unknown, of a wrong type or out of range."""
    try:
        return load_settings(kind, path)
    except ConfigError as error:
        raise error.with_lines(study=path) from error


def built(kind: type[Built], content: Mapping[str, Any]) -> Built:
    """A settings dataclass from plain values, typed. Raises ConfigError for what a field refuses."""
    return load_settings(kind, settings=content)


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later parts over earlier ones; keys may be dotted."""
    return functools.reduce(merge, parts, {})
