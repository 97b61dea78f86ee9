"""What a benchmark was asked for, as its summary keeps it: the command and every setting, flags and device too. It needs no torch."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vidkd.bench.speed.config import BenchmarkConfig

COMMAND, SETTINGS = "command", "settings"
INTERRUPTED = "interrupted"
"""Key of a run that the user stopped before it had all rounds and cold starts that were asked for."""
NOT_RECORDED = "not recorded: this summary is from before commands were kept in it"
FILE_ALONE = "# The file alone: flags over it and the device are not recorded, for this summary is from before they were kept in it."


def kept_command(words: Sequence[str]) -> str:
    """A command line, without where files lie on this machine: of absolute paths the last part stays, behind dots."""
    return shlex.join([_word_without_place(word) for word in words])


def _word_without_place(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{flag}={_without_place(value)}" if equals and flag.startswith("-") else _without_place(word)


def _without_place(text: str) -> str:
    return f".../{Path(text).name}" if Path(text).is_absolute() else text


def kept_settings(config: BenchmarkConfig, device: str) -> dict[str, Any]:
    """Every setting as it was measured, and the device that was asked for; of models what is not at its default. Paths as in commands."""
    content = dataclasses.asdict(config)
    content["models"] = {
        label: {name: value for name, value in spec.items() if value is not None and value is not False}
        for label, spec in content["models"].items()
    }
    found: dict[str, Any] = _plain({"device": device, **content})
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return _without_place(value) if isinstance(value, str) else value


def told_command(data: Mapping[str, Any]) -> str:
    """The command that measured; data: of a summary."""
    return str(data.get(COMMAND) or NOT_RECORDED)


def told_settings(data: Mapping[str, Any]) -> str:
    """The settings as measured, in YAML; of a summary that does not tell them the file's text, with a word that says so."""
    settings = data.get(SETTINGS)
    if settings is None:
        return f"{FILE_ALONE}\n{data.get('config', '')}"
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
