"""Dataclasses from the plain values of JSON or YAML: strict about keys and types, with messages that name file, key and value."""

import dataclasses
import functools
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from vidkd.base.errors import ConfigError, VidkdError, nearest
from vidkd.base.text import shown

Kind = TypeVar("Kind")
FOR_TRAINING = "for training alone"
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping of keys to values",
}


def for_training(default: Kind) -> Kind:
    """The default of a dataclass's field that training alone reads, so that it is refused as a flag where a network is judged."""
    return dataclasses.field(default=default, metadata={FOR_TRAINING: True})


def read_record(
    kind: type[Kind], content: object, where: str, *, prefix: str = "", error: type[VidkdError] = ConfigError, **lines: object
) -> Kind:
    """`kind`, a dataclass of plain values, of tuples and mappings of them, and of such dataclasses, in whole or in parts.

    where: the file (and line), for messages. prefix: of the keys, as "window.". Raises `error` with `where` and `lines`, naming the key:
    unknown (with the nearest known one), missing, of another type, not finite, or refused by the dataclass itself.
    """
    lines = {"where": where, **lines}
    for problem in _wrong_keys(kind, content, prefix):
        raise error(problem.pop("what"), **problem, **lines)
    for key in _not_finite(content, prefix):
        raise error(f"{key} must be a finite number", **lines)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as problem:
        raise error(_in_words(str(problem), kind, content, prefix), **lines) from None
    except VidkdError as refused:
        raise error(refused.what, **lines) from None


@functools.lru_cache(maxsize=256)
def _fields(kind: Any) -> dict[str, type[Any] | None]:
    """The names of a dataclass's fields, each with the dataclass that it holds, if it holds one."""
    hints = typing.get_type_hints(kind)
    found: dict[str, type[Any] | None] = {}
    for entry in dataclasses.fields(kind):
        options = (hints[entry.name], *typing.get_args(hints[entry.name]))
        found[entry.name] = next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)
    return found


def _wrong_keys(kind: Any, content: object, prefix: str) -> Iterator[dict[str, str]]:
    """The unknown and the missing keys of a mapping and of its parts, as lines of an error."""
    if not isinstance(content, Mapping):
        return
    fields = _fields(kind)
    for key in content:
        if key not in fields:
            close = nearest(str(key), fields)
            meant = {"did_you_mean": f"{prefix}{close}"} if close else {}
            yield {"what": f"unknown key '{prefix}{key}'"[:100], "known": ", ".join(f"{prefix}{name}" for name in fields), **meant}
    missing = [f"{prefix}{name}" for name in _needed(kind) if name not in content]
    if missing:
        yield {"what": f"metadata lacks {', '.join(missing)}"}
    for key, value in content.items():
        if fields[key] is not None:
            yield from _wrong_keys(fields[key], value, f"{prefix}{key}.")


def _not_finite(value: object, key: str) -> Iterator[str]:
    if isinstance(value, float):
        if not math.isfinite(value):
            yield key
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _not_finite(part, f"{key.rstrip('.')}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _not_finite(part, key)


def _in_words(problem: str, kind: Any, content: object, prefix: str) -> str:
    """What msgspec says, as "window.frames must be a whole number, found "8"": its types and the place in plain words."""
    what, _, place = problem.rstrip("`").partition(" - at `$")
    keys = re.findall(r"[A-Za-z_]\w*", place)
    value = content
    for part in re.findall(r"[A-Za-z_]\w*|\d+", place):
        value = value.get(part) if isinstance(value, Mapping) else value[int(part)] if isinstance(value, list | tuple) else value
    name = f"{prefix}{place.lstrip('.')}" if keys else prefix.rstrip(".")
    expected = re.match(r"Expected `([^`]+)`(?: of length (\d+))?", what)
    if what.startswith("Invalid enum value") or (expected and keys and _options(kind, keys)):
        return f"{name} must be one of {', '.join(map(str, _options(kind, keys)))}, found {shown(value)}"
    if expected:
        words = " or ".join(_WORDS.get(word, word) for word in expected[1].split(" | "))
        return f"{name or 'metadata'} must be {words}{f' of {expected[2]} entries' if expected[2] else ''}, found {shown(value)}"
    return f"{name}.{what}".lstrip(".")


def _needed(kind: Any) -> list[str]:
    missing = dataclasses.MISSING
    return [entry.name for entry in dataclasses.fields(kind) if entry.default is missing and entry.default_factory is missing]


def _options(kind: Any, keys: list[str]) -> list[Any]:
    """The values of a field that names them (Literal)."""
    for key in keys[:-1]:
        kind = _fields(kind).get(key) or kind
    hint = typing.get_type_hints(kind).get(keys[-1])
    options = [hint, *typing.get_args(hint)]
    return [value for option in options if typing.get_origin(option) is Literal for value in typing.get_args(option)]
