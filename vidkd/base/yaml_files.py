"""YAML files of settings: read safely and within bounds, every key with the line that sets it; `base: FILE` is a file to inherit from.

The configurations that come with vidkd are found by name: `configs/` of a checkout, the package `vidkd.configs` of an installation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import vidkd
from vidkd.base.errors import ConfigError, nearest
from vidkd.base.files import near_files, reason_of

SUFFIX = ".yaml"
BASE = "base"
MAX_BASES = 8
"""Files that inherit from each other; more are a circle."""
MAX_CHARACTERS = 2**20
MAX_DEPTH = 64
"""Levels of nesting; what vidkd reads has at most eight."""
MAX_NODES = 100_000
"""Keys and values of a file once its aliases are written out."""


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe one, for which keys are texts as they are written: `on: 1` sets `on`, and `1: 2` sets `1`."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node; that of a key has no index."""
        node = super().compose_node(parent, index)
        if isinstance(parent, yaml.MappingNode) and index is None and isinstance(node, yaml.ScalarNode) and node.value != "<<":
            node.tag = "tag:yaml.org,2002:str"
        return node


@dataclass(frozen=True)
class Tree:
    """The content of a YAML document, and the `file:line` that sets each dotted key."""

    content: dict[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)


def read_yaml(path: Path | str, *, inherit: bool = False, above: int = 0) -> Tree:
    """A YAML mapping of plain values; inherit: laid over that of the file that its key `base` names, relative to its own folder.

    A path or base that is no file may be the name of a shipped configuration (`vidkd config ls`). above: files that inherit from this one.
    Raises ConfigError for a file that is missing, is no YAML, is too large or too deep, or has tags that build objects.
    """
    path = find_config(path)
    tree = _read_one(path)
    if not inherit or BASE not in tree.content:
        return tree
    where, named = f"{BASE} in {path}", str(tree.content[BASE])
    if above >= MAX_BASES:
        raise ConfigError(f"more than {MAX_BASES} files inherit from each other", where=where, hint="leave one out")
    below = path.parent / named
    below = below if below.is_file() else find_config(named)
    if not below.is_file():
        raise _no_config(below, named, where=where)
    under = read_yaml(below, inherit=True, above=above + 1)
    own = {key: value for key, value in tree.content.items() if key != BASE}
    return Tree(merge(without_other_method(under.content, own), own), {**under.places, **tree.places})


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the nested values of `over` put in; neither is changed. Keys of `over` may be dotted."""
    result = dict(base)
    for key, value in over.items():
        head, _, rest = key.partition(".")
        value = {rest: value} if rest else value
        below = result.get(head)
        result[head] = merge(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return result


def without_other_method(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content, without the settings of its method if `settings` choose another task than the file does."""
    other = settings.get("task", content.get("task")) != content.get("task")
    return {key: value for key, value in content.items() if not (other and key == "method")}


def _read_one(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
        check_bounds(text, str(path))
        loader = PlainLoader(text)
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except FileNotFoundError:
        raise _no_config(path, str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", reason=reason_of(error)) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that is none
        raise ConfigError(f"cannot read {path}", **_misread(error, path)) from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(content).__name__}")
    places: dict[str, str] = {}
    _collect_places(node, "", places, path)
    return Tree(content or {}, places)


def _misread(error: Exception, path: Path) -> dict[str, str]:
    """Why a text is no YAML, and the line and column where PyYAML says so."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return {"reason": " ".join(str(error).split())}
    mark = error.problem_mark
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    return {"reason": reason, "where": f"{path}:{mark.line + 1}, column {mark.column + 1}"}


def _no_config(path: Path, name: str, **lines: str) -> ConfigError:
    """The error for a configuration that is no file; `name`, as it was given, may be meant for a shipped one."""
    near = near_files(path, (".yaml", ".yml"))
    if "did_you_mean" not in near and not Path(name).is_absolute():
        near |= near_shipped(name) | {"all_names": "vidkd config ls"}
    return ConfigError(f"config not found: {path}", **lines, **near)


def _collect_places(node: Any, prefix: str, places: dict[str, str], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name, place = f"{prefix}{key.value}", f"{path}:{key.start_mark.line + 1}"
            if name in places:
                raise ConfigError(f"'{name}' is set twice", where=f"{places[name]} and {place}", hint="remove one")
            places[name] = place
            _collect_places(value, f"{name}.", places, path)


def check_bounds(text: str, where: str) -> None:
    """Raise ConfigError for YAML that is too long, too deep, or grows beyond MAX_NODES by its aliases; syntax errors are not judged here.

    The text is only cut into events, so neither depth nor aliases cost anything.
    """
    found = f"{len(text)} characters" if len(text) > MAX_CHARACTERS else _excess(text)
    if found:
        allowed = f"{MAX_CHARACTERS} characters, {MAX_DEPTH} levels, {MAX_NODES} keys and values"
        raise ConfigError(f"the YAML is too large or too deep: {where}", found=found, allowed=allowed)


def _excess(text: str) -> str:
    sizes: dict[str | None, int] = {}  # of what an anchor names, written out
    open_parts: list[tuple[str | None, int]] = [(None, 0)]
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            size = 1 if isinstance(event, yaml.ScalarEvent) else 0
            if isinstance(event, yaml.CollectionStartEvent):
                open_parts.append((event.anchor, 1))
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, size = open_parts.pop()
                sizes[anchor] = size
            elif isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, _ in open_parts):
                    return "an alias within what it names"
                size = sizes.get(event.anchor, 1)
            open_parts[-1] = (open_parts[-1][0], open_parts[-1][1] + size)
            if len(open_parts) > MAX_DEPTH:
                return "more levels of nesting"
            if open_parts[-1][1] > MAX_NODES:
                return "aliases that multiply its values"
    except yaml.YAMLError as error:  # libyaml has a limit of nesting of its own
        return "more levels of nesting" if "nesting" in str(error) else ""
    return ""


def shipped_folder() -> Path:
    """The folder of all shipped configurations."""
    package = Path(vidkd.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_names() -> list[str]:
    """Their names, as `attention/folder`, sorted."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob(f"*{SUFFIX}"))


def shipped_config(name: str) -> Path:
    """The file of a shipped configuration, named as `attention/folder` or `configs/attention/folder.yaml`. Raises ConfigError."""
    plain = _plain_name(name)
    if plain not in shipped_names():
        raise ConfigError(f"no shipped config '{name}'", **near_shipped(name), all_names="vidkd config ls")
    return shipped_folder() / f"{plain}{SUFFIX}"


def near_shipped(name: str) -> dict[str, str]:
    """A line for an error that names the shipped configurations that `name` means without their folder, or else the nearest one."""
    plain, known = _plain_name(name), shipped_names()
    ending = [other for other in known if other.rpartition("/")[2] == plain]
    close = " or ".join(ending) if ending else nearest(plain, known, cutoff=0.7)
    if close is None:
        by_last = {other.rpartition("/")[2]: other for other in known}
        close = by_last.get(nearest(plain.rpartition("/")[2], by_last, cutoff=0.7) or "")
    return {} if close is None else {"did_you_mean": close}


def _plain_name(name: str) -> str:
    return name.removeprefix("configs/").removesuffix(SUFFIX)


def find_config(name: Path | str) -> Path:
    """The file of this name, or where there is none the shipped configuration of this name; otherwise the name, for whoever reads it."""
    plain = _plain_name(str(name))
    if not Path(name).exists() and not Path(name).is_absolute() and plain in shipped_names():
        return shipped_config(plain)
    return Path(name)
