"""Arguments that the verbs with a configuration share."""

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


REPAIR = "repair"


def list_settings(kind: "type[Any]", task: str | None = None) -> int:
    """Print every setting of a configuration of this kind, with this task where it has methods."""
    from vidkd.base.settings import settings_help

    sys.stdout.write(settings_help(kind, task))
    return 0


def check_judging_reads(flags: "Sequence[str]", kind: "type[Any]", sections: "Sequence[str]", *, unread: str | None = None) -> None:
    """Raise ConfigError for the first flag, known as a setting, that judging does not read.

    sections: those of `kind` that judging reads, but for what their fields say is for training alone (`vidkd.base.records.for_training`),
    and but for the section `unread`.
    """
    from vidkd.base.errors import ConfigError
    from vidkd.base.settings import keys_of_judging

    read = [key for key in keys_of_judging(kind, sections) if unread is None or not key.startswith(f"{unread}.")]
    for key in (word[2:].partition("=")[0] for word in flags if word.startswith("--")):
        if key in read:
            continue
        if below := _below(key, read):
            raise ConfigError(f"--{key} is a section of settings", hint=f"one by one what judging reads of it: {below}")
        section = key
        while section and not _below(section, read):
            section = section.rpartition(".")[0]
        what = _below(section, read) if section else f"is one of {', '.join(f'--{name}.' for name in sections)}"
        mend = f"leave it out; what judging reads: {what}" if section else f"leave it out; what judging reads {what}"
        raise ConfigError(f"--{key} means nothing to an evaluation: judging does not read it", hint=mend)


def _below(section: str, keys: "Iterable[str]") -> str:
    """The flags of a section among the keys, "" if it has none."""
    return ", ".join(f"--{key}" for key in keys if key.startswith(f"{section}."))


def list_steps(kinds: "Mapping[str, type]") -> int:
    """Print every setting of every kind of step of a recipe; those of a repair are a run's, so it is said where these are."""
    from vidkd.base.settings import settings_help

    text = "".join(
        re.sub(r"^  --", f"  {name}.", settings_help(kind), flags=re.MULTILINE) for name, kind in kinds.items() if name != REPAIR
    )
    sys.stdout.write(f"prune.ratio is the key `ratio` of a step, which a recipe holds as `- prune: {{ratio: 0.5}}`.\n\n{text}\n")
    sys.stdout.write(
        f"Training of what is left:\n  {REPAIR}.*   settings of a run, as `vidkd train --settings` lists them, and `teacher: original`\n"
    )
    return 0
