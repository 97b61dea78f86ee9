"""Files that are either whole or not there: atomic writes, JSON, JSON lines."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from vidkd.base.errors import ConfigError, DataError, VidkdError, WriteError, nearest

log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path`; on success flush, fsync and rename it over `path`.

    On any error the temporary file is removed and `path` stays as it was, so a full disk or a kill loses nothing.
    `mode` is "w" (text, UTF-8) or "wb". Raises WriteError where the file system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8")  # noqa: SIM115
        with writing(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with writing(path):
            os.replace(temporary, path)
        _fsync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """The one place where the system's refusal of a write becomes a message.

    Raises WriteError for an OSError, unless that names a file elsewhere, which was read meanwhile.
    """
    path = Path(path)
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        if named is not None and named.parent != path.parent and named not in path.parents:
            raise
        raise WriteError.of(path, error) from error


def lock(descriptor: int, in_use: VidkdError) -> None:
    """Lock an open file or folder until its descriptor is closed, which a kill does too.

    Raises `in_use` if another process holds it. Where the file system has no locks (some network ones), a warning is logged and the caller
    proceeds; so it does on Windows.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise in_use from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("the file system has no locks (%s): start only one process here", error.strerror)


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
        file.write(dump_json(content, indent=1) + "\n")


def dump_json(content: object, *, indent: int | None = None) -> str:
    """Readable JSON in UTF-8; with escapes where a name is no UTF-8, as file names need not be. NaN and infinity: ValueError."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent, allow_nan=False)
    return text


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises DataError with path and position if it is missing or not JSON."""
    path = Path(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"), str(path), what="not a JSON file")
    except FileNotFoundError:
        raise DataError(f"file not found: {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not a JSON file: {path}", reason="it holds no text") from error


def parse_json(text: str, where: str, *, what: str = "not JSON", kind: type[VidkdError] = DataError, **lines: object) -> Any:
    """What `json.loads` gives. Raises `kind`, with what is wrong, `where` and `lines`, for text that is no JSON.

    So it does for brackets nested too deeply, a number of too many digits, and half of a surrogate pair, which fits into no file name.
    """
    try:
        value = json.loads(text)
        if _HALF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = "brackets are nested too deeply" if isinstance(error, RecursionError) else error
        raise kind(f"{what}: {where}", reason=reason, **lines) from None
    return value


def claim_record(path: Path, record: Mapping[str, Any], *, what: str) -> None:
    """Write what decides the content of a folder to `path` in it, or check that it is what was recorded there.

    what: the folder's content, for the message. Raises ConfigError that lists what differs.
    """
    if not path.exists():
        write_json(path, record)
    elif (there := read_json(path)) != record:
        differing = [f"{name}: {then!r} there, {now!r} asked" for name, then, now in differences(there, record)]
        raise ConfigError(
            f"the folder holds {what} made with other settings: {path.parent}",
            recorded_in=path,
            differing="; ".join(differing),
            hint="choose another folder with --out, or delete this one yourself",
        )


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of what differs between two trees of dictionaries; None is what is missing in one."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield name, before, now


def append_jsonl(path: Path | str, row: object) -> None:
    """Append one row to a JSON-lines file in a single write, creating the file and its folder when missing.

    A torn last line (a killed writer) is cut off first, so that it cannot swallow the new row.
    """
    path = Path(path)
    line = (dump_json(row) + "\n").encode()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON: {path}:{number}", reason=error) from error
    return rows


def cached_arrays(folder: Path, made_from: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Numpy arrays by name: those in `folder` that were made from just this, else those of `make`, kept there as .npz.

    made_from: all that they depend on by name, of values that JSON can hold, such as hashes of files, and settings. A damaged file is
    made again, and logged. Raises WriteError.
    """
    import numpy as np

    path = folder / f"{hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:24]}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as kept:
                return dict(kept)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            log.warning("made again, for it is damaged: %s (%s)", path, error)
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in make().items()}
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return arrays


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
