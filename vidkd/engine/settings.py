"""Configurations from strict YAML and flags, typed by the dataclass of the kind of run that they are for."""

import dataclasses
import functools
import logging
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from jsonargparse import ArgumentParser

from vidkd.base.errors import ConfigError, UnknownFlagError, VidkdError, nearest, unknown_name
from vidkd.base.files import near_files, reason_of
from vidkd.base.records import FOR_TRAINING
from vidkd.engine.expected import as_setting, expected_of, given_value

DEFAULT_TASK = "supervised"
log = logging.getLogger(__name__)


class Settings(Protocol):
    """A dataclass of all settings of one kind of run. A field is a plain value or a frozen dataclass of such fields."""

    @classmethod
    def tasks(cls) -> Mapping[str, type]:
        """The methods of this kind of run by name, with the dataclass that `method` holds for each."""
        ...

    @classmethod
    def unused(cls, task: str, /) -> Sequence[str]:
        """The keys beside `method` that this task refuses to have set (a teacher, where it has none)."""
        ...

    @property
    def task(self) -> str:
        """A name of `tasks()`."""
        ...

    @property
    def method(self) -> Any:
        """Settings of the task."""
        ...


Kind = TypeVar("Kind", bound=Settings)


def load_settings(
    kind: type[Kind], path: Path | str | None = None, *, settings: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Kind:
    """A configuration of this kind from a YAML file, then nested `settings`, then flags in `overrides` (--data.root DIR).

    `method` in the file is that of the file's task: where `settings` choose another task, it is left out. Where a flag does, so is what
    the other task refuses to have set, and that is logged; flags themselves are never left out.
    Only plain values are read: no tag, class path or import in a file is followed. Raises ConfigError with the file, the line and the
    nearest known name for an unknown key, and with the expected type for a wrong value.
    """
    source = str(path) if path is not None else "settings"
    tree = read_yaml(Path(path)) if path is not None else Tree({}, {})
    content = merge(_without_other_method(tree.content, settings or {}), settings or {})
    task = chosen_task(content, overrides)
    if task not in kind.tasks():
        raise unknown_name("task", task, kind.tasks(), where=f"task in {source}")
    content = _for_flagged_task(content, task, kind, source)
    _check_keys(content, kind, task, tree.lines, source)
    _check_overrides(overrides, kind, task)
    places = _Places(source, tree.lines, overrides)
    config = _typed(content, overrides, kind, task, places)
    object.__setattr__(config, "_places", places)  # no field: it is neither compared nor saved
    return config


def default_settings(kind: type[Kind], task: str) -> Kind:
    """The configuration of this kind in which nothing but the task was set."""
    return load_settings(kind, settings={"task": task})


def _without_other_method(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file's content, without the settings of its method if `settings` choose another task than the file does."""
    other = settings.get("task", content.get("task")) != content.get("task")
    return {key: value for key, value in content.items() if not (other and key == "method")}


def _for_flagged_task(content: dict[str, Any], task: str, kind: type[Settings], source: str) -> dict[str, Any]:
    """The content without what belongs to the task that it names, where the flag --task chose another one; logs what is left out."""
    there = content.get("task", task)
    if there == task:
        return content
    dropped = [key for key in ("method", *kind.unused(task)) if content.get(key) is not None]
    names = [name for name, value in _flat_items({key: content[key] for key in dropped}, "") if not isinstance(value, Mapping)]
    if names:
        log.info("--task %s: left out of %s, which is for task %s: %s", task, source, there, ", ".join(names))
    return {key: value for key, value in content.items() if key not in dropped}


def place_of(config: Settings, key: str) -> str:
    """Where a setting of a configuration was given, for messages: `file:line`, `--key on the command line`, or its key alone."""
    places: _Places | None = getattr(config, "_places", None)
    if places is None or not (places.flag(key) or key in places.lines):
        return key
    return places.of(key) if places.flag(key) else f"{key} in {places.of(key)}"


def with_places_of(config: Kind, changed: Kind) -> Kind:
    """`changed`, which was made of `config` by hand, with the places where the settings of that were given."""
    object.__setattr__(changed, "_places", getattr(config, "_places", None))
    return changed


def config_stem(config: Settings) -> str:
    """Name of the file that a configuration was read from, without its extension; "" where there is none."""
    places: _Places | None = getattr(config, "_places", None)
    return Path(places.source).stem if places is not None and places.lines else ""


@dataclass(frozen=True)
class _Places:
    """Where a setting was given: a file and its lines by dotted key, and the command line over it."""

    source: str
    lines: Mapping[str, int]
    overrides: Sequence[str]

    def of(self, key: str) -> str:
        """`file:line` of a key, or that it was on the command line."""
        if self.flag(key):
            return f"--{key} on the command line"
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source

    def flag(self, key: str) -> bool:
        """Whether a key was given on the command line."""
        return any(flag == f"--{key}" for flag, _ in read_flags(self.overrides))

    def given(self, key: str) -> str:
        """What was given for a key on the command line, "" if nothing was."""
        return next((text or "" for flag, text in reversed(read_flags(self.overrides)) if flag == f"--{key}"), "")

    def named_in(self, message: str) -> str:
        """Where the first given setting that a message names was given; a message may leave out the sections that a key lies in."""
        names = re.findall(r"[a-z]\w*(?:\.\w+)+", message)
        flags = [flag[2:] for flag, _ in read_flags(self.overrides) if flag.startswith("--")]
        for key in (*flags, *self.lines):
            if any(key == name or key.endswith(f".{name}") for name in names):
                return self.of(key)
        return self.source


@dataclass(frozen=True)
class Tree:
    """A YAML document and the line on which each dotted key stands."""

    content: dict[str, Any]
    lines: dict[str, int]


def read_yaml(path: Path) -> Tree:
    """Read a YAML mapping of plain values. Raises ConfigError if the file is missing, is no YAML, or has tags that build objects."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config not found: {path}", **near_files(path, (".yaml", ".yml"))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", reason=reason_of(error)) from error
    try:
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {path}", reason=" ".join(str(error).split())) from error
    if content is None:
        return Tree({}, {})
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


def known_keys(kind: type[Settings], task: str) -> set[str]:
    """Every dotted key of a configuration of this kind with this task."""
    own = {key for key in _keys_below(kind, "") if not key.startswith("method")}
    return own | _keys_below(kind.tasks()[task], "method.") | {"method"}


def _sections(kind: type[Settings], task: str) -> set[str]:
    """The dotted keys that hold settings, not a value."""
    return {key.rpartition(".")[0] for key in known_keys(kind, task)} | {"method"}


def _without_empty_sections(content: Mapping[str, Any], sections: set[str], prefix: str = "") -> dict[str, Any]:
    """A section without anything below it (`train:` alone) is as good as not there."""
    return {
        key: _without_empty_sections(value, sections, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in content.items()
        if not (value is None and f"{prefix}{key}" in sections)
    }


def _keys_below(kind: type, prefix: str) -> set[str]:
    hints = typing.get_type_hints(kind)
    keys = set()
    for entry in dataclasses.fields(kind):
        keys.add(f"{prefix}{entry.name}")
        if dataclasses.is_dataclass(hints[entry.name]):
            keys |= _keys_below(typing.cast(type, hints[entry.name]), f"{prefix}{entry.name}.")
    return keys


def keys_of_judging(kind: type[Settings], sections: Sequence[str]) -> list[str]:
    """The dotted keys of values below these sections, without those of fields that are for training alone, in their order."""
    hints = typing.get_type_hints(kind)
    return [key for name in sections for key in _judged_below(hints[name], f"{name}.")]


def _judged_below(kind: type, prefix: str) -> list[str]:
    hints = typing.get_type_hints(kind)
    keys: list[str] = []
    for entry in dataclasses.fields(kind):
        name = f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(hints[entry.name]):
            keys += _judged_below(typing.cast(type, hints[entry.name]), f"{name}.")
        elif not entry.metadata.get(FOR_TRAINING):
            keys.append(name)
    return keys


def _check_keys(content: Mapping[str, Any], kind: type[Settings], task: str, lines: Mapping[str, int], source: str) -> None:
    known = known_keys(kind, task)
    sections = _sections(kind, task)
    for key, value in _flat_items(content, ""):
        if key in sections and value is not None and not isinstance(value, Mapping):
            where = f"{source}:{lines[key]}" if key in lines else source
            raise ConfigError(f"'{key}' is a section of settings, not one value", where=where, found=value)
        if key in known or key.startswith("teacher_settings."):
            continue
        where = f"{source}:{lines[key]}" if key in lines else source
        _refuse_other_methods(key, kind, task, where=where, mend="task: {}")
        close = nearest(key, known)
        meant = {"did_you_mean": close} if close else {}
        raise ConfigError(f"unknown setting '{key}'", where=where, **meant)


def _refuse_other_methods(key: str, kind: type[Settings], task: str, *, where: str, mend: str) -> None:
    """Raise ConfigError for a setting of the method of other tasks; mend: how another task is chosen there."""
    owners = sorted(name for name in kind.tasks() if key in known_keys(kind, name))
    if owners:
        whose = f"task{'s' if len(owners) > 1 else ''} {', '.join(owners)}"
        raise ConfigError(f"{key} belongs to {whose}, not {task}", where=where, hint=f"remove it, or {mend.format(owners[0])}")


def _flat_items(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items = []
    for key, value in content.items():
        items.append((f"{prefix}{key}", value))
        if isinstance(value, Mapping):
            items += _flat_items(value, f"{prefix}{key}.")
    return items


def _check_overrides(overrides: Sequence[str], kind: type[Settings], task: str) -> None:
    known = known_keys(kind, task)
    for word in overrides:
        key = word[2:].split("=")[0]
        if word.startswith("--") and key not in known:
            _refuse_other_methods(key, kind, task, where=f"--{key} on the command line", mend="--task {}")
            raise UnknownFlagError.of("setting", f"--{key}", [f"--{name}" for name in sorted(known)], where="command line")


@functools.cache
def settings_parser(kind: type[Settings], task: str) -> ArgumentParser:
    """The parser behind YAML, flags and help of a configuration of this kind with this task; made once, as it takes longer than parsing."""
    parser = ArgumentParser(exit_on_error=False, prog="settings", add_help=False)
    parser.add_class_arguments(kind, skip={"method"})
    parser.add_class_arguments(kind.tasks()[task], "method")
    return parser


def _typed(content: Mapping[str, Any], overrides: Sequence[str], kind: type[Kind], task: str, places: "_Places") -> Kind:
    parser = settings_parser(kind, task)
    try:
        values = parser.parse_object(_without_empty_sections(content, _sections(kind, task)))
        if overrides:
            values = parser.parse_args(list(overrides), namespace=values)
        return kind(**parser.instantiate(values).as_dict())  # not vars: a key that is a method of Namespace is marked there
    except Exception as error:
        raise _wrong_value(error, places, content, kind, task) from error


def _wrong_value(error: Exception, places: _Places, content: Mapping[str, Any], kind: type[Settings], task: str) -> ConfigError:
    """The error of a value that has a wrong type or is refused by its dataclass; jsonargparse wraps the latter."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, VidkdError):
            lines = {"where": places.named_in(cause.what), **cause.lines}
            if "fix" in lines:
                lines["fix"] = _as_given(lines["fix"], places)
            return ConfigError(cause.what, **{label.replace(" ", "_"): text for label, text in lines.items()})
    reason = " ".join(str(error).split())
    named = re.search(r"(?:Parser key \"|argument --)([\w.]+)", reason)
    if named is None:
        return ConfigError("a setting has a wrong value", where=places.source, reason=reason)
    key = named[1]
    expected = expected_of(kind, key, kind.tasks()[task])
    if expected is None:
        return ConfigError(f"'{key}' has a wrong value", where=places.of(key), reason=reason)
    found = places.given(key) or given_value(content, key)
    mend = {}
    if expected.words.startswith("a list") and _takes(kind, task, key, f"[{found}]"):
        mend = {"hint": as_setting(key, f"[{found}]", flag=places.flag(key))}
    elif expected.default:  # an empty list shows nothing, and would turn off what was meant
        mend = {"hint": f"{as_setting(key, expected.default, flag=places.flag(key))}   (the default)"}
    return ConfigError(f"'{key}' has a wrong value", where=places.of(key), found=found, expected=expected.words, **mend)


def _as_given(mend: str, places: _Places) -> str:
    """`key: value` and what follows it after three spaces, as the flag that it is where the key was given as one; other text as it is."""
    setting, gap, rest = mend.partition("   ")
    key, colon, value = setting.partition(": ")
    return f"{as_setting(key, value, flag=True)}{gap}{rest}" if colon and places.flag(key) else mend


def _takes(kind: type[Settings], task: str, key: str, value: str) -> bool:
    """Whether a setting may have this value, where nothing else is set."""
    parser = settings_parser(kind, task)
    try:
        kind(**parser.instantiate(parser.parse_args([f"--{key}={value}"])).as_dict())
    except Exception:  # whatever jsonargparse or a dataclass has against it
        return False
    return True


def as_dict(config: Settings) -> dict[str, Any]:
    """The configuration as plain nested values, for YAML and for checkpoints."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(typing.cast(Any, config))))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


def to_yaml(config: Settings) -> str:
    """The configuration as YAML that `load_config` reads back to the same configuration."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
