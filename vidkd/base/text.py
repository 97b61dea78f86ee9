"""Text that others wrote, JSON and YAML, read within bounds of size, depth and digits."""

import json
import re
import reprlib
from typing import Any

from vidkd.base.errors import ConfigError, DataError, VidkdError

MAX_YAML_CHARACTERS = 2**20
MAX_DEPTH = 64
"""Levels of nesting in YAML; what vidkd reads has at most eight."""
MAX_NODES = 100_000
"""Keys and values of a YAML file once its aliases are written out."""
MAX_DIGITS = 4300
"""Of a whole number, as Python's own limit."""
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, where: str, *, what: str = "not JSON", kind: type[VidkdError] = DataError, **lines: object) -> Any:
    """What `json.loads` gives. Raises `kind`, with what is wrong, `where` and `lines`, for text that is no JSON and for three more cases.

    These are: nested too deeply to be read, a number of too many digits, half of a surrogate pair, which fits into no file or file name.
    """
    try:
        value = json.loads(text)
        if _HALF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}: {error.msg}" if "\n" in text else error.msg
    except RecursionError:
        reason = "brackets are nested too deeply"
    except UnicodeEncodeError as error:
        reason = f"{error.object[error.start]!a} is half a character"
    except ValueError:
        reason = f"a number has more than {MAX_DIGITS} digits"
    else:
        return value
    raise kind(f"{what}: {where}", reason=reason, **lines)


def shown(value: object) -> str:
    """A value for a message: as JSON where it is one, at most 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_yaml(text: str, where: str) -> None:
    """Raise ConfigError for YAML that is too long, too deep, or grows beyond MAX_NODES by its aliases; syntax errors are not judged here.

    The text is only cut into events, so neither depth nor aliases cost anything.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise _too_much(where, f"{len(text)} characters", f"at most {MAX_YAML_CHARACTERS}")
    import yaml

    sizes: dict[str, int] = {}  # of what an anchor names, written out
    open_parts: list[tuple[str | None, int]] = [(None, 0)]
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            size = 0
            if isinstance(event, yaml.CollectionStartEvent):
                open_parts.append((event.anchor, 1))
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, size = open_parts.pop()
                sizes |= {anchor: size} if anchor else {}
            elif isinstance(event, yaml.ScalarEvent):
                size = 1
                if len(event.value) > MAX_DIGITS and not event.style and event.value.strip("+-").replace("_", "").isdigit():
                    raise _too_much(where, f"a number of {len(event.value)} digits", f"at most {MAX_DIGITS}")
            elif isinstance(event, yaml.AliasEvent):
                size = sizes.get(str(event.anchor), 1)
            open_parts[-1] = (open_parts[-1][0], open_parts[-1][1] + size)
            if len(open_parts) > MAX_DEPTH:
                raise _too_much(where, f"more than {MAX_DEPTH} levels of nesting", f"at most {MAX_DEPTH}")
            if open_parts[-1][1] > MAX_NODES:
                raise _too_much(where, "aliases that multiply its values", f"at most {MAX_NODES} keys and values")
    except yaml.YAMLError as error:
        if "nesting" in str(error):  # libyaml has a limit of its own
            raise _too_much(where, f"more than {MAX_DEPTH} levels of nesting", f"at most {MAX_DEPTH}") from None


def _too_much(where: str, found: str, allowed: str) -> ConfigError:
    return ConfigError(f"the YAML is too large or too deep: {where}", found=found, allowed=allowed)
