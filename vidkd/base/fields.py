"""What a dataclass of settings or of a record says of its fields: types, ranges, and a line of help each. Imports little, for --help."""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

Kind = TypeVar("Kind")


class Bounds(NamedTuple):
    """The range of a number, or the least entries of a list, in `Annotated`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None


FOR_TRAINING = "for training alone"
Count = Annotated[int, Bounds(ge=1)]
Whole = Annotated[int, Bounds(ge=0)]
Positive = Annotated[float, Bounds(gt=0)]
NotNegative = Annotated[float, Bounds(ge=0)]
Share = Annotated[float, Bounds(ge=0, le=1)]
PositiveShare = Annotated[float, Bounds(gt=0, le=1)]
ShareBelow1 = Annotated[float, Bounds(ge=0, lt=1)]
PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path", type(None): "null"}
MANY = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}


def for_training(default: Kind) -> Kind:
    """The default of a dataclass's field that training alone reads, so that it is refused as a flag where a network is judged."""
    return dataclasses.field(default=default, metadata={FOR_TRAINING: True})


@functools.cache
def field_types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(kind)}


@functools.cache
def field_help(kind: Any) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of each field, below `Args:`."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, arguments = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Args:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", arguments, flags=re.MULTILINE):
            found[name] = " ".join(text.split()).rstrip(".;")
    return found


def options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type, or it alone; without the ranges of `Annotated`."""
    if typing.get_origin(hint) is Annotated:
        return options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(part for option in typing.get_args(hint) for part in options(option))
    return (hint,)


def is_mapping(hint: Any) -> bool:
    """Whether values by name are admitted."""
    return any(typing.get_origin(part) in (dict, Mapping) or part is dict for part in options(hint))


def is_list(hint: Any) -> bool:
    """Whether several values are admitted."""
    return any(typing.get_origin(part) in (list, tuple, Sequence) for part in options(hint))


@functools.cache
def dataclass_in(hint: Any) -> Any:
    """The dataclass that a type is, or holds as an entry or an alternative; None if there is none."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in typing.get_args(hint) if (found := dataclass_in(part)) is not None), None)


def in_words(hint: Any) -> str | None:
    """A type of plain values in words, with its range; None for any other."""
    if isinstance(hint, str):
        return hint
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join([str(in_words(parts[0])), *_ranges(parts[1:])])
    if origin in (Union, types.UnionType):
        words = [in_words(part) for part in parts]
        return None if None in words else ", or ".join(map(str, words)).replace(", or one of ", ", ")
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin in (tuple, list) and parts:
        many = "values" if len(set(parts) - {Ellipsis}) > 1 else _several(parts[0])
        return f"a list of {many}" if Ellipsis in parts or origin is list else f"a list of {len(parts)} {many}"
    if is_mapping(hint) or dataclasses.is_dataclass(hint):
        return f"a mapping of keys to {_several(parts[1]) if len(parts) > 1 else 'values'}"
    return PLAIN.get(hint)


def _several(entry: Any) -> str:
    """Values of this type in words, in the plural."""
    if typing.get_origin(entry) is Annotated:
        return " ".join([_several(typing.get_args(entry)[0]), *_ranges(typing.get_args(entry)[1:])])
    if typing.get_origin(entry) in (tuple, list):
        return str(in_words(entry)).replace("a list", "lists", 1)
    return str(in_words(entry)) if typing.get_origin(entry) is Literal else MANY.get(entry, "values")


def _ranges(bounds: Sequence[Bounds]) -> Iterator[str]:
    for given in bounds:
        words = {"ge": "from {} on", "gt": "above {}", "le": "at most {}", "lt": "below {}", "min_length": "of at least {} entries"}
        for name, text in words.items():
            if (bound := getattr(given, name)) is not None:
                yield text.format(bound)
