"""What every manifest is as a file: JSON lines, a versioned header first, each key checked, the data root beside it or recorded."""

import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from vidkd.base.errors import DataError, nearest
from vidkd.base.text import parse_json, shown

KeyTypes: TypeAlias = Mapping[str, tuple[str, Callable[[Any], bool]]]
"""key -> (what it must be, the test of it)"""


def manifest_lines(path: Path, *, hint: str, made_by: str | None = None) -> list[str]:
    """The lines of a manifest, at least one. Raises DataError if it is missing, a folder, no text, or cut off in a line.

    hint: for one that is not whole. made_by: what makes one where there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"manifest not found: {path}", **({"hint": made_by} if made_by else {})) from None
    except IsADirectoryError:
        raise DataError(f"manifest is a folder: {path}", hint="name the .jsonl file in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not a manifest: {path}", reason=f"not UTF-8 text at byte {error.start}") from None
    if not text.endswith("\n"):
        raise DataError(f"not a whole manifest: {path}", reason="its last line does not end" if text else "empty file", hint=hint)
    return text[:-1].split("\n")


def manifest_row(line: str, where: str, *, hint: str) -> dict[str, Any]:
    """One line as an object. Raises DataError, naming `where`, for anything else."""
    row = parse_json(line, where, hint=hint)
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object", hint=hint)
    return row


def header_fields(header: Mapping[str, Any], where: str, *, kind: str, version: int, what: str, hint: str) -> dict[str, Any]:
    """A header without its kind and version. Raises DataError for those of another kind (`what` names this one) or version."""
    if header.get("kind") != kind:
        raise DataError(f"{where}: not a {what}", expected=f'a first line with "kind": "{kind}"', hint=hint)
    if header.get("schema_version") != version:
        found = header.get("schema_version")
        raise DataError(f"{where}: schema_version {found} is not {version}, the one known here", hint=hint)
    return {key: value for key, value in header.items() if key not in ("schema_version", "kind")}


def check_keys(row: Mapping[str, Any], types: KeyTypes, required: Collection[str], where: str, *, hint: str) -> None:
    """Raise DataError, beginning with `where`, for an unknown key (with the nearest), a missing one, or a value of another type."""
    for key in row:
        if key not in types:
            close = nearest(key, types)
            raise DataError(f"{where}: unknown key '{key}'", **({"did_you_mean": close} if close else {}), known=", ".join(types))
    for key in types:
        if key in required and key not in row:
            raise DataError(f"{where}: '{key}' is missing", hint=hint)
    for key, value in row.items():
        kind, test = types[key]
        if not test(value):
            raise DataError(f"{where}: '{key}' must be {kind}, found {shown(value)}", hint=hint)


def recorded_root(path: Path, root: Path) -> dict[str, str]:
    """What a manifest at `path` records of its data root: nothing for its own folder, a relative path for one above it, else the whole."""
    folder, root = path.resolve().parent, root.resolve()
    if folder == root:
        return {}
    return {"root": Path(os.path.relpath(root, folder)).as_posix() if root in folder.parents else str(root)}


def data_root(path: Path, recorded: str | None, given: Path | str | None, *, hint: str) -> Path:
    """The folder that paths start from: as given, else as recorded, else the manifest's own. Raises DataError if it is no folder."""
    root = Path(given) if given is not None else (path.parent / recorded).resolve() if recorded else path.parent
    if not root.is_dir():
        origin = "given" if given is not None else f"recorded in {path}:1"
        raise DataError(f"data root not found: {root}", origin=origin, hint=hint)
    return root


def is_number(value: object) -> bool:
    """A finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
