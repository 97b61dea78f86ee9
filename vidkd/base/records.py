"""Dataclasses from the plain values of JSON or YAML: strict about keys and types, with messages that name file, key and value."""

import contextlib
import dataclasses
import functools
import json
import math
import operator
import re
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec

from vidkd.base.errors import ConfigError, VidkdError, nearest
from vidkd.base.fields import Bounds, dataclass_in, field_types, in_words, is_list, is_mapping

Kind = TypeVar("Kind")


class MisfitError(Exception):
    """A value that does not fit: its dotted key, the type that belongs there, the known keys next to it, the place of what is wrong in it.

    hint: None for an unknown key, or words. value: MISSING for a key that is not there. place: as "[0][3]".
    """

    def __init__(self, key: str, value: Any, hint: Any, known: Sequence[str] = (), place: str = "") -> None:
        super().__init__(key)
        self.key, self.value, self.hint, self.known, self.place = key, value, hint, known, place

    @property
    def found(self) -> str:
        """The value, or the part of it that is wrong, for a message."""
        value, numbers = self.value, re.findall(r"\d+", self.place)
        if not numbers or "[...]" in self.place:
            return shown(value)
        for number in numbers:
            value = value[int(number)]
        return f"{shown(value)} in {self.place}"


def build(
    kind: type[Kind],
    content: Mapping[str, Any],
    *,
    at: str = "",
    strict: bool = True,
    fields: Mapping[str, Any] | None = None,
    default: Kind | None = None,
) -> Kind:
    """A dataclass of plain values, of lists and mappings of them, and of such dataclasses.

    at: what the keys of messages begin with. strict: a text is no number. fields: the types by name, where not those of the class.
    default: what holds where the content says nothing. Raises MisfitError for an unknown or missing key and a value of another type,
    and what the dataclasses raise.
    """
    fields = field_types(typing.cast(Any, kind)) if fields is None else fields
    for key, value in content.items():
        if key not in fields:
            raise MisfitError(f"{at}{key}", value, None, [f"{at}{name}" for name in fields])
    entries = dataclasses.fields(typing.cast(Any, kind))
    needed = [entry.name for entry in entries if default is None and entry.default is entry.default_factory]  # both MISSING
    sections: dict[str, Any] = {name: {} for name in needed if not strict and dataclasses.is_dataclass(fields[name])}
    content = {**sections, **content}
    if missing := [f"{at}{name}" for name in needed if name not in content]:
        raise MisfitError(", ".join(missing), dataclasses.MISSING, fields[needed[0]])
    values = {}
    for entry in entries:
        if entry.name in content:
            below = _default(entry) if default is None else getattr(default, entry.name)
            values[entry.name] = convert(fields[entry.name], content[entry.name], f"{at}{entry.name}", strict=strict, default=below)
    try:
        return kind(**values) if default is None else dataclasses.replace(typing.cast(Any, default), **values)
    except ValueError as refused:
        raise ConfigError(f"{at}{refused}") from None


def _default(entry: "dataclasses.Field[Any]") -> Any:
    return None if entry.default_factory is dataclasses.MISSING else entry.default_factory()


def convert(hint: Any, value: Any, key: str, *, strict: bool = True, default: Any = None) -> Any:
    """A value as this type; of a dataclass over this default. Raises as `build`."""
    inner = dataclass_in(hint)
    if inner is not None:
        if isinstance(value, Mapping) and is_mapping(hint):
            return {name: convert(inner, part, f"{key}.{name}", strict=strict) for name, part in value.items()}
        if isinstance(value, Mapping) or (value is None and hint is inner and not strict):
            default = default if isinstance(default, inner) else None
            return build(inner, value or {}, at=f"{key}.", strict=strict, default=default)
        if isinstance(value, list | tuple) and is_list(hint):
            return [convert(inner, part, key, strict=strict) for part in value]
        if hint is inner or isinstance(value, inner):
            if isinstance(value, inner):
                return value
            raise MisfitError(key, value, hint)
    try:
        fitting = msgspec.convert(value, _checked(hint), strict=strict, dec_hook=lambda path, text: path(text))
    except (msgspec.ValidationError, TypeError) as error:
        raise MisfitError(key, value, hint, place=str(error).partition("`$")[2].rstrip("`")) from None
    if is_inexact(fitting):
        raise MisfitError(key, value, "a finite number")
    return fitting


@functools.cache
def _checked(hint: Any) -> Any:
    """A type with its ranges in msgspec's words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        metas = (msgspec.Meta(**part._asdict()) for part in parts[1:] if isinstance(part, Bounds))
        return Annotated[(_checked(parts[0]), *metas)]
    if origin is Literal or not parts:
        return hint
    checked = tuple(map(_checked, parts))
    return functools.reduce(operator.or_, checked) if origin in (Union, types.UnionType) else origin[checked]


def is_inexact(value: object) -> bool:
    """Whether there is a number in it that is not finite."""
    if isinstance(value, Mapping):
        return any(map(is_inexact, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_inexact, value))
    return isinstance(value, float) and not math.isfinite(value)


def read_record(
    kind: type[Kind], content: object, where: str, *, prefix: str = "", error: type[VidkdError] = ConfigError, **lines: object
) -> Kind:
    """A dataclass (see `build`) from what a file holds.

    where: the file (and line), for messages. prefix: of the keys, as "window.". Raises `error` with `where` and `lines`, naming the key:
    unknown (with the nearest known one), missing, of another type, not finite, or refused by the dataclass itself.
    """
    lines = {"where": where, **lines}
    try:
        if not isinstance(content, Mapping):
            raise MisfitError(prefix.rstrip(".") or "metadata", content, dict)
        if _is_flat(typing.cast(Any, kind)) and content.keys() <= field_types(typing.cast(Any, kind)).keys():
            with contextlib.suppress(msgspec.ValidationError):  # what is wrong is found below
                found = msgspec.convert(content, kind)  # at once, as manifests have many rows
                if not is_inexact(content):
                    return found
        return build(kind, content, at=prefix)
    except MisfitError as wrong:
        if wrong.hint is None:
            close = nearest(wrong.key, wrong.known)
            meant = {"did_you_mean": close} if close else {}
            raise error(f"unknown key '{wrong.key}'"[:100], known=", ".join(wrong.known), **meant, **lines) from None
        if wrong.value is dataclasses.MISSING:
            raise error(f"missing: {wrong.key}", **lines) from None
        raise error(f"{wrong.key} must be {in_words(wrong.hint) or 'of another type'}, found {wrong.found}", **lines) from None
    except VidkdError as refused:
        raise error(refused.what, **lines) from None


def shown(value: object) -> str:
    """A value for a message: as JSON where it is one, at most 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def _is_flat(kind: Any) -> bool:
    """Whether msgspec reads it whole: neither dataclasses nor ranges in it."""
    return all(dataclass_in(hint) is None and _checked(hint) == hint for hint in field_types(kind).values())
