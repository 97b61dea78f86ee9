"""The one reader of settings: a dataclass from strict YAML and flags over it, typed by jsonargparse.

Every kind of configuration is read by `load_settings`: runs, learning along a stream, steps of a recipe, benchmarks, studies.
A field is a plain value, a dataclass of such fields, or a list or mapping of either. A file with `base: FILE` holds only what differs.
"""

import copy
import dataclasses
import functools
import logging
import re
import shlex
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from vidkd.base.errors import ConfigError, UnknownFlagError, VidkdError, nearest, unknown_name
from vidkd.base.files import near_files, reason_of
from vidkd.base.records import FOR_TRAINING
from vidkd.base.shipped import find_config
from vidkd.base.text import check_yaml

if typing.TYPE_CHECKING:
    from jsonargparse import ArgumentParser

DEFAULT_TASK = "supervised"
BASE = "base"
MAX_BASES = 8
"""Files that inherit from each other; more are a circle."""
PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}
Kind = TypeVar("Kind")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tree:
    """The content of a YAML document, and where each dotted key is set: its line, and its file where that is one of the `base` files."""

    content: dict[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def load_settings(
    kind: type[Kind],
    path: Path | str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    where: str = "settings",
) -> Kind:
    """A configuration of this kind from a YAML file, then nested `settings`, then flags in `overrides` (--data.root DIR).

    A kind with methods has `tasks()`, their settings by name, `unused(task)`, the keys beside `method` that a task refuses to have set,
    and the fields `task` and `method`. `method` in the file is that of the file's task: where `settings` choose another task, it is left
    out. Where a flag does, so is what the other task refuses to have set, and that is logged; flags themselves are never left out.
    Only plain values are read: no tag, class path or import in a file is followed. Raises ConfigError with the file, the line and the
    nearest known name for an unknown key, and with the expected type for a wrong value. where: what stands for the file without one.
    """
    source = str(path) if path is not None else where
    tree = Tree({}) if path is None else read_yaml(Path(path), inherit=BASE not in _field_names(kind))
    content = merge(_without_other_method(tree.content, settings or {}), settings or {})
    methods = None
    if _tasks(kind):
        task = chosen_task(content, overrides)
        if task not in _tasks(kind):
            raise unknown_name("task", task, _tasks(kind), where=f"task in {source}")
        content = _for_flagged_task(content, task, kind, source)
        methods = _tasks(kind)[task]
    places = _Places(source, tree, overrides)
    _check_keys(content, kind, methods, places)
    content = merge(content, flag_values(overrides, kind, methods))
    config = _typed(content, kind, methods, places)
    object.__setattr__(config, "_places", places)  # no field: it is neither compared nor saved
    return config


def default_settings(kind: type[Kind], task: str) -> Kind:
    """The configuration of this kind in which nothing but the task was set."""
    return load_settings(kind, settings={"task": task})


def read_yaml(path: Path, *, inherit: bool = False) -> Tree:
    """A YAML mapping of plain values; inherit: laid over that of the file that its key `base` names, relative to its own folder.

    A path or base that is no file may be the name of a shipped configuration (`vidkd config ls`).

    Raises ConfigError for a file that is missing, is no YAML, is larger or deeper than `check_yaml` admits, or has tags that build objects.
    """
    path = find_config(path)
    tree = _read_one(path)
    seen = [path]
    while inherit and BASE in tree.content:
        below = seen[-1].parent / str(tree.content[BASE])
        if len(seen) > MAX_BASES:
            raise ConfigError(f"more than {MAX_BASES} files inherit from each other", where=f"{BASE} in {path}", hint="leave one out")
        below = below if below.is_file() else find_config(str(tree.content[BASE]))
        if not below.is_file():
            raise ConfigError(f"config not found: {below}", where=f"{BASE} in {seen[-1]}", **near_files(below, (".yaml", ".yml")))
        under = _read_one(below)
        own = {key: value for key, value in tree.content.items() if key != BASE}
        files = {**dict.fromkeys(under.lines, below), **dict.fromkeys(tree.lines, path), **tree.files}
        content = merge(_without_other_method(under.content, own), own)
        tree = Tree(content, {**under.lines, **tree.lines}, files)
        seen.append(below)
    return tree


def _read_one(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config not found: {path}", **near_files(path, (".yaml", ".yml"))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", reason=reason_of(error)) from error
    check_yaml(text, str(path))
    try:
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that is none
        raise ConfigError(f"cannot read {path}", reason=" ".join(str(error).split())) from error
    if content is None:
        return Tree({})
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(content).__name__}")
    lines: dict[str, int] = {}
    _collect_lines(node, "", lines, path)
    return Tree(content, lines)


def _collect_lines(node: Any, prefix: str, lines: dict[str, int], path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if name in lines:
            raise ConfigError(f"'{name}' is set twice", where=f"{path}:{lines[name]} and {path}:{line}", hint="remove one")
        lines[name] = line
        _collect_lines(value, f"{name}.", lines, path)


def read_flags(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """(Flag, value) of `--key value` and `--key=value`, None for one without a value; a word that is neither stands alone, without one."""
    found: list[tuple[str, str | None]] = []
    left = list(words)
    while left:
        flag, equals, text = left.pop(0).partition("=")
        is_followed = flag.startswith("--") and bool(left) and not left[0].startswith("--")
        found.append((flag, text if equals else left.pop(0) if is_followed else None))
    return found


def flag_values(overrides: Sequence[str], kind: type, methods: type | None = None) -> dict[str, str | list[str]]:
    """What flags set, by dotted key, as text that is typed with the rest; a single value of a list as a list of that.

    Raises ConfigError for an unknown flag, or one without a value.
    """
    found: dict[str, str | list[str]] = {}
    for flag, text in read_flags(overrides):
        key = flag.removeprefix("--")
        hint = _type_of(key, kind, methods)
        if hint is None or not flag.startswith("--"):
            _refuse_other_methods(key, kind, methods, where=f"--{key} on the command line", fix="--task {}")
            known = [f"--{name}" for name in sorted(_keys_below(kind, methods))]
            raise UnknownFlagError.of("setting", f"--{key}", known, where="command line")
        if text is None:
            raise ConfigError(f"'--{key}' needs a value", where="command line")
        found[key] = [text] if _is_list(hint) and not re.match(r"\s*\[|null$|~$", text) and "," not in text else text
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the nested values of `over` put in; neither is changed. Keys of `over` may be dotted."""
    result = dict(base)
    for key, value in over.items():
        head, _, rest = key.partition(".")
        value = {rest: value} if rest else value
        below = result.get(head)
        result[head] = merge(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return result


def chosen_task(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """The task that a configuration's content names, or a flag over it."""
    named = [text for flag, text in read_flags(overrides) if flag == "--task" and text is not None]
    return str([content.get("task", DEFAULT_TASK), *named][-1])


def _without_other_method(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content, without the settings of its method if `settings` choose another task than the file does."""
    other = settings.get("task", content.get("task")) != content.get("task")
    return {key: value for key, value in content.items() if not (other and key == "method")}


def _for_flagged_task(content: dict[str, Any], task: str, kind: Any, source: str) -> dict[str, Any]:
    """The content without what belongs to the task that it names, where the flag --task chose another one; logs what is left out."""
    there = content.get("task", task)
    if there == task:
        return content
    dropped = [key for key in ("method", *kind.unused(task)) if content.get(key) is not None]
    names = [name for name, value in _flat_items({key: content[key] for key in dropped}, "") if not isinstance(value, Mapping)]
    if names:
        log.info("--task %s: left out of %s, which is for task %s: %s", task, source, there, ", ".join(names))
    return {key: value for key, value in content.items() if key not in dropped}


def _flat_items(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items = []
    for key, value in content.items():
        items.append((f"{prefix}{key}", value))
        if isinstance(value, Mapping):
            items += _flat_items(value, f"{prefix}{key}.")
    return items


# where a setting was given


@dataclass(frozen=True)
class _Places:
    """Where a setting was given: a file and its lines by dotted key, and the command line over it."""

    source: str
    tree: Tree
    overrides: Sequence[str]

    def of(self, key: str) -> str:
        """`file:line` of a key, or that it was on the command line."""
        if self.flag(key):
            return f"--{key} on the command line"
        return f"{self.tree.files.get(key, self.source)}:{self.tree.lines[key]}" if key in self.tree.lines else self.source

    def flag(self, key: str) -> bool:
        """Whether a key was given on the command line."""
        return any(flag == f"--{key}" for flag, _ in read_flags(self.overrides))

    def named_in(self, message: str) -> str:
        """Where the first given setting that a message names was given; a message may leave out the sections that a key lies in."""
        names = re.findall(r"[a-z]\w*(?:\.\w+)+", message)
        flags = [flag[2:] for flag, _ in read_flags(self.overrides) if flag.startswith("--")]
        for key in (*flags, *self.tree.lines):
            if any(key == name or key.endswith(f".{name}") for name in names):
                return self.of(key)
        return self.source


def place_of(config: object, key: str) -> str:
    """Where a setting of a configuration was given, for messages: `file:line`, `--key on the command line`, or its key alone."""
    places: _Places | None = getattr(config, "_places", None)
    if places is None or not (places.flag(key) or key in places.tree.lines):
        return key
    return places.of(key) if places.flag(key) else f"{key} in {places.of(key)}"


def with_places_of(config: object, changed: Kind) -> Kind:
    """`changed`, which was made of `config` by hand, with the places where the settings of that were given."""
    object.__setattr__(changed, "_places", getattr(config, "_places", None))
    return changed


def config_stem(config: object) -> str:
    """Name of the file that a configuration was read from, without its extension; "" where there is none."""
    places: _Places | None = getattr(config, "_places", None)
    return Path(places.source).stem if places is not None and places.tree.lines else ""


# what a kind of settings holds


def _tasks(kind: Any) -> Mapping[str, type]:
    """The methods of a kind that has them, by name."""
    tasks: Mapping[str, type] = kind.tasks() if hasattr(kind, "tasks") else {}
    return tasks


def _field_names(kind: Any) -> list[str]:
    return [entry.name for entry in dataclasses.fields(kind)]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name in _field_names(kind)}


def _fields(kind: type, methods: type | None) -> dict[str, Any]:
    """Types by name, `method` being that of the task."""
    return _hints(kind) | ({"method": methods} if methods is not None else {})


def known_keys(kind: type, task: str) -> set[str]:
    """Every dotted key of a configuration of this kind with this task."""
    return _keys_below(kind, _tasks(kind)[task])


def _keys_below(kind: type, methods: type | None = None, prefix: str = "") -> set[str]:
    keys = set()
    for name, hint in _fields(kind, methods).items():
        keys.add(f"{prefix}{name}")
        if dataclasses.is_dataclass(hint):
            keys |= _keys_below(typing.cast(type, hint), prefix=f"{prefix}{name}.")
    return keys


def _type_of(key: str, kind: type, methods: type | None = None) -> Any:
    """The type of a dotted key, through mappings of settings by name (`models.LABEL.score`); None for an unknown one."""
    hint: Any = kind
    for number, name in enumerate(key.split(".")):
        if hint is Any:
            return Any
        inner = dataclass_in(hint)
        if (isinstance(hint, type) and hint is inner) or (inner is not None and not _is_mapping(hint)):
            hint = _fields(inner, methods if number == 0 else None).get(name)
        elif _is_mapping(hint):
            arguments = typing.get_args(next(part for part in (hint, *typing.get_args(hint)) if _is_mapping(part)))
            hint = arguments[1] if len(arguments) == 2 else Any
        else:
            return None
    return hint


def _is_mapping(hint: Any) -> bool:
    return any(typing.get_origin(part) in (dict, Mapping) or part is dict for part in (hint, *_union(hint)))


def _is_list(hint: Any) -> bool:
    return any(typing.get_origin(part) in (list, tuple, Sequence) for part in (hint, *_union(hint)))


def _union(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else ()


def dataclass_in(hint: Any) -> Any:
    """The dataclass that a type is, or holds as an entry or an alternative; None if there is none."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in typing.get_args(hint) if (found := dataclass_in(part)) is not None), None)


def _parts(value: Any, hint: Any, at: str) -> list[tuple[Any, str]]:
    """The settings below a value whose type holds a dataclass, with their keys: itself, or those of a list or mapping of them."""
    if dataclass_in(hint) is None or value is None:
        return []
    if _is_mapping(hint):
        return [(below, f"{at}.{name}") for name, below in value.items()] if isinstance(value, Mapping) else []
    if _is_list(hint):
        return [(below, at) for below in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
    return [(value, at)]


def keys_of_judging(kind: type, sections: Sequence[str]) -> list[str]:
    """The dotted keys of values below these sections, without those of fields that are for training alone, in their order."""
    return [key for name in sections for key in _judged_below(_hints(kind)[name], f"{name}.")]


def _judged_below(kind: type, prefix: str) -> list[str]:
    keys: list[str] = []
    for entry in dataclasses.fields(typing.cast(Any, kind)):
        name, hint = f"{prefix}{entry.name}", _hints(kind)[entry.name]
        if dataclasses.is_dataclass(hint):
            keys += _judged_below(typing.cast(type, hint), f"{name}.")
        elif not entry.metadata.get(FOR_TRAINING):
            keys.append(name)
    return keys


def _walk(content: Mapping[str, Any], fields: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key of nested settings, dotted, with its value and its type; None as the type of an unknown one."""
    for key, value in content.items():
        name, hint = f"{at}{key}", fields.get(key)
        yield name, value, hint
        for below, place in _parts(value, hint, name):
            if isinstance(below, Mapping):
                yield from _walk(below, _hints(dataclass_in(hint)), f"{place}.")


def _check_keys(content: Mapping[str, Any], kind: type, methods: type | None, places: _Places) -> None:
    """Raise ConfigError, with the nearest name, for a key that no field has, and for one value where a section of settings belongs."""
    for key, value, hint in _walk(content, _fields(kind, methods)):
        if hint is None:
            _refuse_other_methods(key, kind, methods, where=places.of(key), fix="task: {}")
            head = key.rpartition(".")[0]
            below = None if key.startswith("method.") else dataclass_in(_type_of(head, kind, methods)) if head else None
            close = nearest(key, _keys_below(kind, methods) | {f"{head}.{name}" for name in (_hints(below) if below else ())})
            raise ConfigError(f"unknown setting '{key}'", where=places.of(key), **({"did_you_mean": close} if close else {}))
        if dataclasses.is_dataclass(hint) and value is not None and not isinstance(value, Mapping | hint):
            raise ConfigError(f"'{key}' is a section of settings, not one value", where=places.of(key), found=value)


def _refuse_other_methods(key: str, kind: type, methods: type | None, *, where: str, fix: str) -> None:
    """Raise ConfigError for a setting of the method of other tasks; fix: how another task is chosen there."""
    owners = sorted(name for name in _tasks(kind) if key in known_keys(kind, name))
    if owners:
        whose = f"task{'s' if len(owners) > 1 else ''} {', '.join(owners)}"
        task = next(name for name, held in _tasks(kind).items() if held is methods)
        raise ConfigError(f"{key} belongs to {whose}, not {task}", where=where, hint=f"remove it, or {fix.format(owners[0])}")


# types


@functools.cache
def _parser(kind: type, methods: type | None) -> "ArgumentParser":
    """The parser behind YAML, flags and help; made once, as that takes longer than parsing."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, prog="settings", add_help=False)
    parser.add_class_arguments(kind, skip={"method"} if methods is not None else set())
    if methods is not None:
        parser.add_class_arguments(methods, "method")
    return parser


def settings_help(kind: type, task: str | None = None) -> str:
    """Every setting of a kind of configuration, with this task where it has methods; those of a mapping of settings below NAME."""
    from jsonargparse import ArgumentParser

    several = {name: hint for name, hint in _hints(kind).items() if dataclass_in(hint) and not dataclasses.is_dataclass(hint)}
    parser = ArgumentParser(exit_on_error=False, prog="settings", add_help=False)
    parser.add_class_arguments(kind, skip={*several, "method"}, instantiate=False)
    for name, hint in several.items():
        parser.add_class_arguments(dataclass_in(hint), f"{name}.NAME" if _is_mapping(hint) else name, instantiate=False)
    if task is not None:
        parser.add_class_arguments(_tasks(kind)[task], "method")
    _, _, listed = parser.format_help().partition("\n\n")
    listed = re.sub(r"\n  --[\w.]+ CONFIG\s+Path to a configuration file\.", "", listed)
    return re.sub(r"\(type:[^()]*Literal\[[^()]*,\s+default:", "(default:", listed)


def _without_empty_sections(content: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A section without anything below it (`train:` alone) is as good as not there."""
    result = {}
    for key, value in content.items():
        if not dataclasses.is_dataclass(fields[key]):
            result[key] = copy.deepcopy(value)
        elif value is not None:
            result[key] = _without_empty_sections(value, _hints(typing.cast(type, fields[key]))) if isinstance(value, Mapping) else value
    return result


def _typed(content: Mapping[str, Any], kind: type[Kind], methods: type | None, places: _Places) -> Kind:
    parser = _parser(typing.cast(Any, kind), methods)
    try:
        values = parser.parse_object(_without_empty_sections(content, _fields(kind, methods)))
        return kind(**parser.instantiate(values).as_dict())  # not vars: a key that is a method of Namespace is marked there
    except Exception as error:
        raise _wrong_value(error, places, content, kind, methods) from error


def _wrong_value(error: Exception, places: _Places, content: Mapping[str, Any], kind: type, methods: type | None) -> ConfigError:
    """The error of a value that has a wrong type or is refused by its dataclass; jsonargparse wraps the latter."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, VidkdError):
            lines = {"where": places.named_in(cause.what), **cause.lines}
            if "fix" in lines:
                lines["fix"] = _as_given(lines["fix"], places)
            return ConfigError(cause.what, **{label.replace(" ", "_"): text for label, text in lines.items()})
    for key, value, hint in _walk(content, _fields(kind, methods)):
        if dataclass_in(hint) is None and not _fits(hint, value):
            return _misfit(key, value, hint, _default(key, kind, methods), places)
    return ConfigError("a setting has a wrong value", where=places.source, reason=" ".join(str(error).split()))


def _misfit(key: str, value: Any, hint: Any, default: str, places: _Places) -> ConfigError:
    given = next((text for flag, text in reversed(read_flags(places.overrides)) if flag == f"--{key}"), None)
    found = as_yaml(value) if given is None else given
    words = in_words(hint) or str(hint)
    fix = {}
    if words.startswith("a list") and _fits(hint, f"[{found}]"):
        fix = {"hint": as_setting(key, f"[{found}]", flag=places.flag(key))}
    elif default:  # an empty list shows nothing, and would turn off what was meant
        fix = {"hint": f"{as_setting(key, default, flag=places.flag(key))}   (the default)"}
    return ConfigError(f"'{key}' has a wrong value", where=places.of(key), found=found, expected=words, **fix)


def _default(key: str, kind: type, methods: type | None) -> str:
    """The default of a setting as YAML, "" for one without."""
    head, _, last = key.rpartition(".")
    owner = dataclass_in(_type_of(head, kind, methods)) if head else kind
    default = {entry.name: entry.default for entry in dataclasses.fields(owner)}.get(last, dataclasses.MISSING)
    return "" if default is dataclasses.MISSING else as_yaml(default)


def _as_given(fix: str, places: _Places) -> str:
    """`key: value` and what follows it after three spaces, as the flag that it is where the key was given as one; other text as it is."""
    setting, gap, rest = fix.partition("   ")
    key, colon, value = setting.partition(": ")
    return f"{as_setting(key, value, flag=True)}{gap}{rest}" if colon and places.flag(key) else fix


def _fits(hint: Any, value: Any) -> bool:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--value", type=hint)
    try:
        parser.parse_object({"value": copy.deepcopy(value)})
    except Exception:  # whatever jsonargparse has against it
        return False
    return True


def in_words(hint: Any) -> str | None:
    """A type of plain values in words, None for any other."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if origin in (Union, types.UnionType):
        if all(typing.get_origin(part) is Literal for part in parts):
            return "one of " + ", ".join(str(option) for part in parts for option in typing.get_args(part))
        words = [in_words(part) for part in parts]
        return None if None in words else ", or ".join(str(text) for text in words)
    if origin in (tuple, list) and parts:
        several = set(parts) - {Ellipsis}
        entry = next(iter(several))
        kind = "values" if len(several) > 1 else f"{in_words(entry)}" if typing.get_origin(entry) is Literal else MANY.get(entry, "values")
        return f"a list of {kind}" if Ellipsis in parts or origin is list else f"a list of {len(parts)} {kind}"
    return PLAIN.get(hint)


def as_yaml(value: Any) -> str:
    """A plain value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def as_setting(key: str, value: str, *, flag: bool) -> str:
    """How a setting is given a value, which is YAML on one line: in a file, or as a flag quoted for a shell."""
    return f"--{key} {shlex.quote(value)}" if flag else f"{key}: {value}"


def as_dict(config: object) -> dict[str, Any]:
    """The configuration as plain nested values, for YAML and for checkpoints."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(typing.cast(Any, config))))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


def to_yaml(config: object) -> str:
    """The configuration as YAML that `load_settings` reads back to the same configuration."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
