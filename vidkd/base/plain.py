"""Dataclasses from plain values out of JSON or YAML: strict about keys and types, without the library that reads configurations."""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from vidkd.base.errors import ConfigError, VidkdError, unknown_name

Kind = TypeVar("Kind")
FOR_TRAINING = "for training alone"


def from_plain(kind: type[Kind], content: object, where: str, *, prefix: str = "") -> Kind:
    """`kind`, a dataclass of plain values, of tuples and mappings of them, and of such dataclasses.

    where: the file, for messages; prefix: of the keys, as "window.". Raises ConfigError naming `where` and the key: unknown, missing, of
    another type, or refused by the dataclass itself.
    """
    keys = checked_keys(kind, content, where, prefix=prefix)
    hints = typing.get_type_hints(kind)
    try:
        return kind(**{key: _value(hints[key], value, where, f"{prefix}{key}") for key, value in keys.items()})
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}", where=where) from None
    except VidkdError as error:
        if error.lines.get("where") == where:  # of a part, which names its key already
            raise
        raise ConfigError(error.what, where=where) from None


def for_training(default: Kind) -> Kind:
    """The default of a dataclass's field that training alone reads, so that it is refused as a flag where a network is judged."""
    return dataclasses.field(default=default, metadata={FOR_TRAINING: True})


def checked_keys(kind: type[Any], content: object, where: str, *, prefix: str = "") -> dict[str, Any]:
    """The mapping, once its keys are those of the dataclass and none without a default is missing. Raises ConfigError as `from_plain`."""
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'metadata'} must be a mapping of keys to values", where=where, found=reprlib.repr(content)
        )
    entries = {entry.name: entry for entry in dataclasses.fields(kind)}
    for key in content:
        if key not in entries:
            raise unknown_name("key", f"{prefix}{key}"[:80], [f"{prefix}{name}" for name in entries], where=where)
    missing = [f"{prefix}{name}" for name, entry in entries.items() if name not in content and _is_needed(entry)]
    if missing:
        raise ConfigError(f"metadata lacks {', '.join(missing)}", where=where, hint=f"write the missing key{'s' * (len(missing) > 1)}")
    return dict(content)


def _is_needed(entry: "dataclasses.Field[Any]") -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _value(hint: Any, value: object, where: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        if all(typing.get_origin(kind) is Literal for kind in kinds):
            return _option(tuple(option for kind in kinds for option in typing.get_args(kind)), value, where, key)
        (kind,) = kinds
        return _value(kind, value, where, key)
    if origin is Literal:
        return _option(arguments, value, where, key)
    if origin is tuple:
        return _tuple(arguments, value, where, key)
    if origin is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise _wrong(key, "a mapping of names to values", value, where)
        return {name: _value(arguments[1], entry, where, f"{key}.{name}") for name, entry in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast(type, hint), value, where, prefix=f"{key}.")
    return _scalar(hint, value, where, key)


def _option(options: tuple[Any, ...], value: object, where: str, key: str) -> Any:
    if any(type(value) is type(option) and value == option for option in options):
        return value
    raise _wrong(key, f"one of {', '.join(map(str, options))}", value, where)


def _tuple(kinds: tuple[Any, ...], value: object, where: str, key: str) -> tuple[Any, ...]:
    """A list or tuple; the kind of its entries comes once with an ellipsis, or once for each."""
    if not isinstance(value, list | tuple):
        raise _wrong(key, "a list", value, where)
    wanted = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
    if len(wanted) != len(value):
        raise _wrong(key, f"a list of {len(wanted)} entries", value, where)
    return tuple(_value(kind, entry, where, key) for kind, entry in zip(wanted, value, strict=True))


def _scalar(kind: type, value: object, where: str, key: str) -> Any:
    """A text, yes or no, whole number or finite number; a whole number is a number too, but yes is not one."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    raise _wrong(key, names[kind], value, where)


def _wrong(key: str, what: str, value: object, where: str) -> ConfigError:
    return ConfigError(f"{key} must be {what}", found=reprlib.repr(value), where=where)
