"""Settings dataclasses from the plain values of a YAML file."""

import copy
import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.base.settings import as_yaml, in_words, merge, read_yaml

Built = TypeVar("Built")


def read_spec(kind: type[Built], path: Path) -> Built:
    """A study's file as its dataclass; a method with nothing below its name has no settings of its own.

    Raises ConfigError with file and key for anything unknown, of a wrong type or out of range.
    """
    tree = read_yaml(path)
    content = {name: value for name, value in tree.content.items() if value is not None}
    if isinstance(content.get("methods"), Mapping):
        content["methods"] = {name: {} if method is None else method for name, method in content["methods"].items()}
    try:
        check_keys(content, kind, "", path, tree.lines)
        return built(kind, content)
    except ConfigError as error:
        raise error.with_lines(study=path) from error


def built(kind: type[Built], content: Mapping[str, Any]) -> Built:
    """A settings dataclass from plain values, typed. Raises ConfigError for what a field refuses."""
    parser = _parser(typing.cast(Any, kind))  # mypy takes no type of a type variable for hashable
    try:
        return kind(**parser.instantiate(parser.parse_object(copy.deepcopy(dict(content)))).as_dict())
    except Exception as error:  # jsonargparse wraps what a dataclass refuses
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, ConfigError):
                raise cause from None
        told = wrong_value(kind, content)
        raise told or ConfigError(f"settings of {kind.__name__} that cannot be used", reason=" ".join(str(error).split())) from error


@functools.cache
def _parser(kind: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, prog="study", add_help=False)
    parser.add_class_arguments(kind)
    return parser


def wrong_value(kind: Any, content: Any, at: str = "") -> ConfigError | None:
    """The error for the first value that is not of the type of its field, anywhere below; None if all are."""
    if not isinstance(content, Mapping):
        return ConfigError(f"'{at.removesuffix('.')}' must hold settings by name", found=as_yaml(content))
    hints = typing.get_type_hints(kind)
    for key, value in content.items():
        if key not in hints:
            return unknown_name("setting", f"{at}{key}", [f"{at}{name}" for name in hints])
        below = [part for part in _parts(value, hints[key], f"{at}{key}") if part[0] is not None]
        for part, place in below:
            if (told := wrong_value(_dataclass_in(hints[key]), part, f"{place}.")) is not None:
                return told
        if not below and not _fits(hints[key], value):
            words = in_words(hints[key])
            return ConfigError(f"'{at}{key}' has a wrong value", found=as_yaml(value), **({"expected": words} if words else {}))
    return None


def _fits(hint: Any, value: Any) -> bool:
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--value", type=hint)
    try:
        parser.parse_object({"value": value})
    except Exception:  # whatever jsonargparse has against it
        return False
    return True


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later parts over earlier ones; keys may be dotted."""
    result: dict[str, Any] = {}
    for part in parts:
        result = merge(result, part)
    return result


def check_keys(content: Any, kind: Any, at: str, path: Path, lines: Mapping[str, int]) -> None:
    """Raise ConfigError, with the nearest name, for a key that no field has, anywhere below."""
    if not isinstance(content, Mapping):
        return
    hints = typing.get_type_hints(kind)
    known = [entry.name for entry in dataclasses.fields(kind)]
    for key, value in content.items():
        if key not in known:
            raise unknown_name("setting", str(key), known, where=f"{path}:{lines.get(f'{at}{key}', 1)}")
        for below, place in _parts(value, hints[key], f"{at}{key}"):
            check_keys(below, _dataclass_in(hints[key]), f"{place}.", path, lines)


def _parts(value: Any, hint: Any, at: str) -> list[tuple[Any, str]]:
    """The settings below a value whose type holds a dataclass: itself, or those of a list or mapping of them."""
    if _dataclass_in(hint) is None:
        return []
    origin = typing.get_origin(hint)
    if origin is dict and isinstance(value, Mapping):
        return [(below, f"{at}.{name}") for name, below in value.items()]
    if origin is list and isinstance(value, Sequence):
        return [(below, at) for below in value]
    return [(value, at)]


def _dataclass_in(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in typing.get_args(hint) if (found := _dataclass_in(part)) is not None), None)
