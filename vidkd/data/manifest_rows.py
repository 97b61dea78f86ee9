"""What every manifest is as a file: JSON lines, a versioned header with the number of rows first, the data root next to it or recorded."""

import json
import os
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import parse_json


def manifest_rows(path: Path, *, kind: str, version: int, counted: str, fix: str, made_by: str | None = None) -> list[dict[str, Any]]:
    """The header, without kind, version and count, and the rows of a manifest, each an object.

    kind, version: what the header must say. counted: the key of the header that holds the number of rows. fix: for one that is not whole.
    made_by: what makes one where there is none. Raises DataError with path and line for a file that is missing, a folder, no text, of
    another kind or version, or cut off: within a row or between two.
    """
    lines = _lines(path, fix, made_by)
    rows = [_row(line, f"{path}:{number}", fix) for number, line in enumerate(lines, start=1)]
    header = rows[0]
    if header.pop("kind", None) != kind:
        raise DataError(f"{path}:1: not a manifest", expected=f'a first line with "kind": "{kind}"', hint=fix)
    if (found := header.pop("schema_version", None)) != version:
        raise DataError(f"{path}:1: schema_version {found} is not {version}, the one known here", hint=fix)
    if (announced := header.pop(counted, None)) != len(rows) - 1:
        raise DataError(f"not a whole manifest: {path}", **{counted: f"{announced} announced, {len(rows) - 1} found"}, hint=fix)
    return rows


def _lines(path: Path, fix: str, made_by: str | None) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"manifest not found: {path}", **({"hint": made_by} if made_by else {})) from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise DataError(f"not a manifest: {path}", reason=error, hint="name the .jsonl file that prepare_data wrote") from None
    if not text.endswith("\n"):
        raise DataError(f"not a whole manifest: {path}", reason="its last line does not end" if text else "empty file", hint=fix)
    return text[:-1].split("\n")


def _row(line: str, where: str, fix: str) -> dict[str, Any]:
    row = parse_json(line, where, hint=fix)
    if not isinstance(row, dict):
        raise DataError(f"{where}: not a JSON object", hint=fix)
    return row


def manifest_line(row: dict[str, Any]) -> str:
    """A row as a line. Raises DataError for a name that is no UTF-8."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a name is not valid UTF-8: {error.object!a}", hint="rename the file") from error
    return text + "\n"


def recorded_root(path: Path, root: Path) -> dict[str, str]:
    """What a manifest at `path` records of its data root: nothing for its own folder, a relative path for one above it, else the whole."""
    folder, root = path.resolve().parent, root.resolve()
    if folder == root:
        return {}
    return {"root": Path(os.path.relpath(root, folder)).as_posix() if root in folder.parents else str(root)}


def data_root(path: Path, recorded: str | None, given: Path | str | None, *, fix: str) -> Path:
    """The folder that paths start from: as given, else as recorded, else the manifest's own. Raises DataError if it is no folder."""
    root = Path(given) if given is not None else (path.parent / recorded).resolve() if recorded else path.parent
    if not root.is_dir():
        origin = "given" if given is not None else f"recorded in {path}:1"
        raise DataError(f"data root not found: {root}", origin=origin, hint=fix)
    return root
