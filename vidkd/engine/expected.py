"""What a setting takes, in words, for messages."""

import dataclasses
import shlex
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

import yaml

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a setting takes, in words, and its default as YAML; None where it has none that can be written."""

    words: str
    default: str | None


def expected_of(kind: type, key: str, methods: type) -> Expected | None:
    """What the setting `key` (dotted) of these settings takes, `method` being of type `methods`; None where words fail."""
    owner: Any = kind
    head, _, last = key.rpartition(".")
    for name in head.split(".") if head else ():
        owner = methods if (owner, name) == (kind, "method") else typing.get_type_hints(owner).get(name)
        if not dataclasses.is_dataclass(owner):
            return None
    found = {entry.name: entry for entry in dataclasses.fields(owner)}.get(last)
    words = None if found is None else in_words(typing.get_type_hints(owner)[last])
    if found is None or words is None:
        return None
    return Expected(words, None if found.default is dataclasses.MISSING else as_yaml(found.default))


def in_words(hint: Any) -> str | None:
    """A type of plain values in words, None for any other."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if origin in (Union, types.UnionType):
        told = [in_words(part) for part in parts]
        return None if None in told else ", or ".join(str(text) for text in told)
    if origin in (tuple, list) and parts:
        several = set(parts) - {Ellipsis}
        kind = MANY.get(next(iter(several)), "values") if len(several) == 1 else "values"
        return f"a list of {kind}" if Ellipsis in parts or origin is list else f"a list of {len(parts)} {kind}"
    return PLAIN.get(hint)


def as_yaml(value: Any) -> str:
    """A plain value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def as_setting(key: str, value: str, *, flag: bool) -> str:
    """How a setting is given a value, which is YAML on one line: in a file, or as a flag that a shell takes as it stands."""
    return f"--{key} {shlex.quote(value)}" if flag else f"{key}: {value}"


def given_value(content: Mapping[str, Any], key: str) -> str:
    """The value of a dotted key in a nested mapping, as YAML; "" where it is not there."""
    value: Any = content
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ""
        value = value[name]
    return as_yaml(value)
