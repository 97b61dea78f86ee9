"""Parts of a JSON document, each checked where it is taken: messages name the file and the place in it."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import read_json


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; DataError otherwise."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object")
    return content


def rows(document: Mapping[str, Any], key: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every object in the list `key`; `where` is `path: key[number]`. Raises DataError if it is no list of objects."""
    listed = document.get(key)
    if not isinstance(listed, list):
        raise DataError(f"{path}: '{key}' must be a list", found="nothing" if listed is None else type(listed).__name__)
    for number, row in enumerate(listed):
        where = f"{path}: {key}[{number}]"
        if not isinstance(row, dict):
            raise DataError(f"{where}: not a JSON object")
        yield where, row


def text(row: Mapping[str, Any], key: str, where: str) -> str:
    """A text that is not empty."""
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise _wrong(row, key, where, "text")
    return value


def whole(row: Mapping[str, Any], key: str, where: str, least: int | None = None) -> int:
    """A whole number, from `least` on."""
    value = row.get(key)
    if type(value) is not int or (least is not None and value < least):
        raise _wrong(row, key, where, "a whole number" if least is None else f"a whole number from {least}")
    return value


def numbers(row: Mapping[str, Any], key: str, where: str, count: int) -> tuple[float, ...]:
    """That many finite numbers."""
    value = row.get(key)
    right = isinstance(value, list) and len(value) == count
    if not right or not all(isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part) for part in value or ()):
        raise _wrong(row, key, where, f"a list of {count} finite numbers")
    return tuple(float(part) for part in value or ())


def _wrong(row: Mapping[str, Any], key: str, where: str, kind: str) -> DataError:
    return DataError(f"{where}: '{key}' must be {kind}, found {row[key]!r}" if key in row else f"{where}: '{key}' is missing")
