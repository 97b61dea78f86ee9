"""The one reader of settings: a dataclass from strict YAML and flags over it.

Every kind of configuration is read by `load_settings`: verbs, runs, learning along a stream, steps of a recipe, benchmarks, studies.
A field is a plain value, a dataclass of such fields, or a list or mapping of either. Its type, with its range (`Annotated`), its default
and its line in the docstring of its class are all that flags, help and messages are made of.
"""

import contextlib
import dataclasses
import logging
import re
import shlex
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from vidkd.base.errors import ConfigError, UnknownFlagError, VidkdError, nearest, unknown_name
from vidkd.base.fields import FOR_TRAINING, dataclass_in, field_help, field_types, in_words, is_list, is_mapping, options
from vidkd.base.records import MisfitError, build, convert
from vidkd.base.yaml_files import BASE, PlainLoader, Tree, without_other_method
from vidkd.base.yaml_files import merge as merge
from vidkd.base.yaml_files import read_yaml as read_yaml

DEFAULT_TASK = "supervised"
Kind = TypeVar("Kind")
log = logging.getLogger(__name__)


def load_settings(
    kind: type[Kind],
    path: Path | str | Tree | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    where: str = "settings",
    of_verb: bool = False,
) -> Kind:
    """A configuration of this kind from a YAML file, then nested `settings`, then flags in `overrides` (--data.root DIR).

    A kind with methods has `tasks()`, their settings by name, `unused(task)`, the keys next to `method` that a task refuses to have set,
    and the fields `task` and `method`. `method` in the file is that of the file's task: where `settings` choose another task, it is left
    out. Where a flag does, so is what the other task refuses to have set, and that is logged; flags themselves are never left out.
    Only plain values are read: no tag, class path or import in a file is followed. Raises ConfigError with the file, the line and the
    nearest known name for an unknown key, and with the expected type for a wrong value. where: shown where there is no file.
    of_verb: its own flags have dashes where the keys have underscores.
    """
    tree = path if isinstance(path, Tree) else Tree({})
    source = where if path is None or isinstance(path, Tree) else str(path)
    if path is not None and not isinstance(path, Tree):
        tree = read_yaml(path, inherit=BASE not in field_types(typing.cast(Any, kind)))
    content = merge(without_other_method(tree.content, settings or {}), settings or {})
    methods = None
    if _tasks(kind):
        task = chosen_task(content, overrides)
        if task not in _tasks(kind):
            raise unknown_task(task, _tasks(kind), tree, source, overrides)
        content = _for_flagged_task(content, task, kind, source)
        methods = _tasks(kind)[task]
        content["method"] = content.get("method") or {}
    places = _Places(source, tree, {flag.removeprefix("--"): text for flag, text in read_flags(overrides)}, dashes=of_verb)
    content = merge(content, flag_values(overrides, kind, methods))
    try:
        config = build(kind, content, strict=False, fields=_fields(kind, methods))
    except MisfitError as wrong:
        raise _wrong(wrong, places, kind, methods) from None
    except VidkdError as refused:
        lines = {"where": places.named_in(refused.what), **refused.lines}
        if "fix" in lines:
            lines["fix"] = _as_given(lines["fix"], places)
        raise ConfigError(refused.what, **{label.replace(" ", "_"): text for label, text in lines.items()}) from refused
    object.__setattr__(config, "_places", places)  # no field: it is neither compared nor saved
    return config


def default_settings(kind: type[Kind], task: str) -> Kind:
    """The configuration of this kind in which nothing but the task was set."""
    return load_settings(kind, settings={"task": task})


# flags


def read_flags(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """(Flag, value) of `--key value` and `--key=value`, None for one without a value; a word that is neither has none either."""
    found: list[tuple[str, str | None]] = []
    left = list(words)
    while left:
        flag, equals, text = left.pop(0).partition("=")
        is_followed = flag.startswith("--") and bool(left) and not left[0].startswith("--")
        found.append((flag, text if equals else left.pop(0) if is_followed else None))
    return found


def flag_values(overrides: Sequence[str], kind: type, methods: type | None = None) -> dict[str, Any]:
    """What flags set, by dotted key; the lists of a flag that is repeated are joined.

    Raises ConfigError for an unknown flag, or one without a value.
    """
    found: dict[str, Any] = {}
    for flag, text in read_flags(overrides):
        key = flag.removeprefix("--")
        hint = _type_of(key, kind, methods)
        if hint is None or not flag.startswith("--"):
            _refuse_other_methods(key, kind, methods, where=f"--{key} on the command line", fix="--task {}")
            known = [f"--{name}" for name in sorted(_keys_below(kind, methods))]
            raise UnknownFlagError.of("setting", f"--{key}", known, where="command line")
        if text is None:
            raise ConfigError(f"'--{key}' needs a value", where="command line")
        value = from_text(text, hint)
        again = isinstance(value, list) and isinstance(found.get(key), list)
        found[key] = [*found[key], *value] if again else value
    return found


def from_text(text: str, hint: Any) -> Any:
    """The value that a flag's text gives a setting of this type: unchanged, as YAML or as a list with commas; text that fits none stays."""
    if text in ("null", "~") and type(None) in options(hint):
        return None
    plain: Any = text
    with contextlib.suppress(yaml.YAMLError, ValueError):
        plain = yaml.load(text, PlainLoader)
    if hint is Any or dataclass_in(hint) is not None:
        return plain
    for value in (text, plain, [part.strip() for part in text.split(",") if part.strip()]):
        with contextlib.suppress(MisfitError):
            convert(hint, value, "", strict=False)
            return value
    return text


def chosen_task(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """The task that a configuration's content names, or a flag over it."""
    named = [text for flag, text in read_flags(overrides) if flag == "--task" and text is not None]
    return str([content.get("task", DEFAULT_TASK), *named][-1])


def unknown_task(task: str, known: Iterable[str], tree: Tree, source: str, overrides: Sequence[str]) -> ConfigError:
    """The error for a task that is none of those known, blamed on the flag or the line of the file that names it."""
    flagged = any(flag == "--task" and text is not None for flag, text in read_flags(overrides))
    where = "--task on the command line" if flagged else f"task in {tree.places.get('task', source)}"
    return unknown_name("task", task, known, where=where)


def _for_flagged_task(content: dict[str, Any], task: str, kind: Any, source: str) -> dict[str, Any]:
    """The content without what belongs to the task that it names, where the flag --task chose another one; logs what is left out."""
    there = content.get("task", task)
    if there == task:
        return content
    dropped = [key for key in ("method", *kind.unused(task)) if content.get(key) is not None]
    names = list(flatten({key: content[key] for key in dropped}))
    if names:
        log.info("--task %s: left out of %s, which is for task %s: %s", task, source, there, ", ".join(names))
    return {key: value for key, value in content.items() if key not in dropped}


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


# where a setting was given


@dataclass(frozen=True)
class _Places:
    """Where a setting was given: a file, the places of its keys, and the texts of flags over it by key."""

    source: str
    tree: Tree
    flags: Mapping[str, str | None]
    dashes: bool = False

    def flag(self, key: str) -> str:
        """The flag of a key."""
        return f"--{key.replace('_', '-') if self.dashes and '.' not in key else key}"

    def of(self, key: str) -> str:
        """`file:line` of a key, or that it was on the command line."""
        flagged = next((flag for flag in self.flags if key == flag or key.startswith(f"{flag}.")), None)
        return self.tree.places.get(key, self.source) if flagged is None else f"{self.flag(flagged)} on the command line"

    def named_in(self, message: str) -> str:
        """Where the first given setting that a message names was given; a message may leave out the sections that a key lies in."""
        names = re.findall(r"[a-z]\w*(?:\.\w+)+", message)
        given = (key for key in (*self.flags, *self.tree.places) if any(f".{key}".endswith(f".{name}") for name in names))
        return self.of(next(given, ""))


def place_of(config: object, key: str) -> str:
    """Where a setting of a configuration was given, for messages: `file:line`, `--key on the command line`, or its key alone."""
    places: _Places | None = getattr(config, "_places", None)
    if places is None or not (key in places.flags or key in places.tree.places):
        return key
    return places.of(key) if key in places.flags else f"{key} in {places.of(key)}"


def with_places_of(config: object, changed: Kind) -> Kind:
    """`changed`, which was made of `config` by hand, with the places where the settings of that were given."""
    object.__setattr__(changed, "_places", getattr(config, "_places", None))
    return changed


def config_stem(config: object) -> str:
    """Name of the file that a configuration was read from, without its extension; "" where there is none."""
    places: _Places | None = getattr(config, "_places", None)
    return Path(places.source).stem if places is not None and places.tree.places else ""


# what is wrong with a value


def _wrong(wrong: MisfitError, places: _Places, kind: type, methods: type | None) -> ConfigError:
    key, hint, where = wrong.key, wrong.hint, places.of(wrong.key)
    if hint is None:
        _refuse_other_methods(key, kind, methods, where=where, fix="task: {}")
        close = nearest(key, {*_keys_below(kind, methods), *wrong.known})
        return ConfigError(f"unknown setting '{key}'", where=where, **({"did_you_mean": close} if close else {}))
    if wrong.value is dataclasses.MISSING:
        names = ", ".join(map(places.flag, key.split(", "))) if places.dashes else key
        return ConfigError(f"missing: {names}", **({"all_flags": f"{places.source} --help"} if places.dashes else {"where": where}))
    if dataclasses.is_dataclass(hint):
        return ConfigError(f"'{key}' is a section of settings, not one value", where=where, found=wrong.value)
    found = places.flags.get(key) or as_yaml(wrong.value)
    fix, default = "", _default(key, kind, methods)
    if is_list(hint) and _fits(hint, [wrong.value]):
        fix = _setting(key, f"[{found}]", places)
    elif default not in ("", "null"):
        fix = f"{_setting(key, default, places)}   (the default)"
    named = places.flag(key) if places.dashes and key in places.flags else key
    return ConfigError(
        f"'{named}' has a wrong value", where=where, found=found, expected=in_words(hint) or str(hint), **({"hint": fix} if fix else {})
    )


def _fits(hint: Any, value: Any) -> bool:
    try:
        convert(hint, value, "", strict=False)
    except MisfitError:
        return False
    return True


def _default(key: str, kind: type, methods: type | None) -> str:
    """The default of a setting as YAML, "" for one without."""
    head, _, last = key.rpartition(".")
    owner = dataclass_in(_type_of(head, kind, methods)) if head else kind
    default = {entry.name: entry.default for entry in dataclasses.fields(owner)}.get(last, dataclasses.MISSING)
    return "" if default is dataclasses.MISSING else as_yaml(default)


def _as_given(fix: str, places: _Places) -> str:
    """`key: value` and what follows it after three spaces, as the flag that it is where the key was given as one; other text unchanged."""
    setting, gap, rest = fix.partition("   ")
    key, colon, value = setting.partition(": ")
    return f"{_setting(key, value, places)}{gap}{rest}" if colon and key in places.flags else fix


def _setting(key: str, value: str, places: _Places) -> str:
    """How a setting is given a value, which is YAML on one line: in a file, or as a flag quoted for a shell, of a list with commas."""
    if key not in places.flags:
        return f"{key}: {value}"
    entries = re.fullmatch(r"\[([^\[\]]*)\]", value)
    text = entries[1].replace(", ", ",") if entries else value
    return f"{places.flag(key)} {shlex.quote(text)}" if text else f"leave out {places.flag(key)}"


def _refuse_other_methods(key: str, kind: type, methods: type | None, *, where: str, fix: str) -> None:
    """Raise ConfigError for a setting of the method of other tasks; fix: how another task is chosen there."""
    owners = sorted(name for name in _tasks(kind) if key in known_keys(kind, name))
    if owners:
        whose = f"task{'s' if len(owners) > 1 else ''} {', '.join(owners)}"
        task = next(name for name, held in _tasks(kind).items() if held is methods)
        raise ConfigError(f"{key} belongs to {whose}, not {task}", where=where, hint=f"remove it, or {fix.format(owners[0])}")


# what a kind of settings holds


def _tasks(kind: Any) -> Mapping[str, type]:
    """The methods of a kind that has them, by name."""
    tasks: Mapping[str, type] = kind.tasks() if hasattr(kind, "tasks") else {}
    return tasks


def _fields(kind: type, methods: type | None) -> dict[str, Any]:
    """Types by name, `method` being that of the task."""
    return field_types(kind) | ({"method": methods} if methods is not None else {})


def known_keys(kind: type, task: str) -> set[str]:
    """Every dotted key of a configuration of this kind with this task."""
    return _keys_below(kind, _tasks(kind)[task])


def _keys_below(kind: type, methods: type | None = None) -> set[str]:
    return {key for key, _, _ in _walk(kind, methods)}


def _walk(kind: Any, methods: type | None = None, prefix: str = "") -> Iterator[tuple[str, Any, "dataclasses.Field[Any]"]]:
    """Every dotted key with its type and field, sections before what they hold; those of a mapping or list of settings are not followed."""
    for entry in dataclasses.fields(kind):
        key, hint = f"{prefix}{entry.name}", _fields(kind, methods)[entry.name]
        yield key, hint, entry
        if dataclasses.is_dataclass(hint):
            yield from _walk(hint, prefix=f"{key}.")


def keys_of_judging(kind: type, sections: Sequence[str]) -> list[str]:
    """The dotted keys of values below these sections, without those of fields that are for training alone, in their order."""
    return [
        key
        for key, hint, entry in _walk(kind)
        if key.partition(".")[0] in sections and not (dataclasses.is_dataclass(hint) or entry.metadata.get(FOR_TRAINING))
    ]


def _type_of(key: str, kind: type, methods: type | None = None) -> Any:
    """The type of a dotted key, through mappings of settings by name (`models.LABEL.score`); None for an unknown one."""
    hint: Any = kind
    for number, name in enumerate(key.split(".")):
        if hint is Any:
            return Any
        inner = dataclass_in(hint)
        if is_mapping(hint):
            arguments = typing.get_args(next(part for part in options(hint) if is_mapping(part)))
            hint = arguments[1] if len(arguments) == 2 else Any
        elif inner is not None:
            hint = _fields(inner, methods if number == 0 else None).get(name)
        else:
            return None
    return hint


# help


def settings_help(kind: type, task: str | None = None) -> str:
    """Every setting of a kind of configuration, with this task where it has methods; those of a mapping of settings below NAME."""
    return "".join(_help_of(kind, _tasks(kind)[task] if task is not None else None, ""))


def _help_of(kind: Any, methods: type | None, prefix: str) -> Iterator[str]:
    sections: list[tuple[str, Any]] = []
    for entry in dataclasses.fields(kind):
        hint, inner = _fields(kind, methods)[entry.name], dataclass_in(_fields(kind, methods)[entry.name])
        key, text = f"{prefix}{entry.name}", field_help(kind).get(entry.name, "")
        if inner is not None:
            sections.append((f"{key}.NAME" if is_mapping(hint) else key, inner))
            continue
        default = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        said = "" if default is dataclasses.MISSING else f"(default: {as_yaml(default)})"
        said = f"{text} {said}" if typing.get_origin(hint) is Literal else f"{text} ({in_words(hint)}) {said}" if in_words(hint) else said
        yield f"  --{key} {_metavar(hint)}\n{textwrap.fill(said.strip(), 120, initial_indent='      ', subsequent_indent='      ')}\n"
    for key, inner in sections:
        yield f"\n{key}: {field_help(kind).get(key.rpartition('.NAME')[0] or key.rpartition('.')[2], '')}\n"
        yield from _help_of(inner, None, f"{key}.")


def _metavar(hint: Any) -> str:
    choices = [str(value) for part in options(hint) if typing.get_origin(part) is Literal for value in typing.get_args(part)]
    return f"{{{','.join(choices)}}}" if choices else "VALUE"


# as plain values


def as_yaml(value: Any) -> str:
    """A plain value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


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
