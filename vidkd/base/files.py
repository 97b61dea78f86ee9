"""Files that are either whole or not there: atomic writes, JSON, JSON lines."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from vidkd.base.errors import DataError, nearest


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success flush, fsync and rename it over `path`.

    On any error the temporary file is removed and `path` stays as it was, so a full disk or a kill loses nothing.
    `mode` is "w" (text, UTF-8) or "wb". Raises OSError as the file system does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _fsync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_directory(directory: Path) -> None:
    """Make the rename itself durable; file systems that cannot sync a directory are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path | str, content: object) -> None:
    """Write `content` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises DataError with path and position if it is missing or not JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"not a JSON file: {path}", line=error.lineno, reason=error.msg) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not a JSON file: {path}", reason="it holds no text") from error


def append_jsonl(path: Path | str, row: object) -> None:
    """Append one row to a JSON-lines file in a single write, creating the file and its folder when missing.

    A torn last line (a killed writer) is cut off first, so that it cannot swallow the new row.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line)


def read_jsonl(path: Path | str) -> list[Any]:
    """The rows of a JSON-lines file; a torn last line (a killed writer) is dropped, any other bad line is a DataError."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"not JSON: {path}:{number}", reason=error) from error
    return rows


def near_files(path: Path, suffixes: Collection[str]) -> dict[str, str]:
    """A line for the error of a file that is not there: which one may be meant, or else what lies in its folder.

    suffixes: of the files that it may be, lower case ("" for folders and files without one); the first is named where there is none.
    """
    if not path.parent.is_dir():
        return {"found": f"the folder {path.parent} is missing"}
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix.lower() in suffixes)
    by_stem = {Path(name).stem: name for name in names}
    close = nearest(path.stem, by_stem, cutoff=0.7)  # without the extension, in which all are alike
    if close is not None:
        return {"did_you_mean": str(path.parent / by_stem[close])}
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return {"found": f"in {path.parent}: {shown or f'no {next(iter(suffixes))} file'.replace('  ', ' ')}"}


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, without the number and the path that Python puts to it."""
    return str(error) if not isinstance(error, OSError) or error.strerror is None else error.strerror


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
