"""Files are whole or not there; JSON lines survive a killed writer."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError, DataError, VidkdError, WriteError
from vidkd.base.files import append_jsonl, atomic_write, lock, near_files, read_json, read_jsonl, reason_of, sha256, write_json


@pytest.mark.parametrize(("mode", "content"), [("w", "né"), ("wb", b"\x00\xff")])
def test_atomic_write_replaces_and_makes_the_folder(tmp_path: Path, mode: str, content: str | bytes) -> None:
    path = tmp_path / "deep" / "file"
    for _ in range(2):
        with atomic_write(path, mode) as file:
            file.write(content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_who_reads_the_old_file_meanwhile_reads_it_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with (tmp_path / "file").open() as reader:
        with atomic_write(tmp_path / "file") as file:
            file.write("a longer text")
        assert reader.read() == "old"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_the_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    with atomic_write(tmp_path / "atomic"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "atomic")}
    assert len(modes) == 1


def _append(path: Path) -> None:
    append_jsonl(path, {"a": 1})


def _write(path: Path) -> None:
    write_json(path, {"a": 1})


@pytest.mark.parametrize("write", [_append, _write])
def test_a_write_that_the_system_refuses_is_a_message(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "a_file").touch()
    for path in (tmp_path / "a_file" / "x.json", Path("/dev/full") if write is _append else tmp_path / "a_file" / "deep" / "x"):
        with pytest.raises(WriteError, match=f"cannot write: {path}") as caught:
            write(path)
        assert isinstance(caught.value, VidkdError)
        assert isinstance(caught.value, OSError)
        assert caught.value.lines["reason"] == os.strerror(caught.value.errno or 0)
        assert "free disk space" in caught.value.lines["fix"]


def test_a_full_disk_under_an_atomic_write_is_a_message_and_a_file_read_meanwhile_is_not(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "file") as file:
            os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
            file.write("x" * 100_000)

    def read() -> None:
        with atomic_write(tmp_path / "file"):
            (tmp_path / "elsewhere" / "none").read_bytes()

    with pytest.raises(WriteError, match="cannot write") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match="none"):
        read()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_utf8_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    append_jsonl(tmp_path / "rows.jsonl", {"item": name})
    append_jsonl(tmp_path / "rows.jsonl", {"item": "é"})
    assert [row["item"] for row in read_jsonl(tmp_path / "rows.jsonl")] == [name, "é"]


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"ü": [1, 2.5, None]})
    assert read_json(path) == {"ü": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ü": [1, 2.5, None]}


def test_reading_json_says_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file not found: .*none\.json"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{\n"a": }')
    with pytest.raises(DataError, match=r"not a JSON file: .*bad\.json\n  reason : .*line 2"):
        read_json(tmp_path / "bad.json")


def test_jsonl_appends_and_reads(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    assert read_jsonl(path) == []
    append_jsonl(path, {"a": 1})
    append_jsonl(path, {"b": "ü"})
    assert read_jsonl(path) == [{"a": 1}, {"b": "ü"}]


def test_a_torn_last_line_is_dropped_and_any_other_bad_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": ')
    assert read_jsonl(path) == [{"a": 1}]
    path.write_text('{"a": 1}\n{"b": \n{"c": 1}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        read_jsonl(path)


@pytest.mark.parametrize("size", [0, 10, (1 << 20) + 1])
def test_sha256(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * size)
    assert sha256(path) == hashlib.sha256(b"a" * size).hexdigest()


def test_files_near_one_that_is_not_there(tmp_path: Path) -> None:
    for name in ("tiny.cfg", "large.cfg", "tiny.weights", "README"):
        (tmp_path / name).touch()
    assert near_files(tmp_path / "tny.cfg", (".cfg",)) == {"did_you_mean": str(tmp_path / "tiny.cfg")}
    assert near_files(tmp_path / "other.cfg", (".cfg",)) == {"found": f"in {tmp_path}: large.cfg, tiny.cfg"}
    assert near_files(tmp_path / "x.onnx", (".onnx", ".xml")) == {"found": f"in {tmp_path}: no .onnx file"}
    assert near_files(tmp_path / "REDME", ("",)) == {"did_you_mean": str(tmp_path / "README")}
    assert near_files(tmp_path / "none" / "x.cfg", (".cfg",)) == {"found": f"the folder {tmp_path / 'none'} is missing"}
    for number in range(20):
        (tmp_path / f"{number:02}.onnx").touch()
    shown = ", ".join(f"{number:02}.onnx" for number in range(12))
    assert near_files(tmp_path / "x.onnx", (".onnx",)) == {"found": f"in {tmp_path}: {shown}, …"}


def test_a_reason_has_neither_number_nor_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Errno") as error:
        (tmp_path / "none").read_bytes()
    assert reason_of(error.value) == "No such file or directory"
    assert reason_of(ValueError("no text")) == "no text"


def test_append_cuts_a_torn_line_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "\xc3')
    assert read_jsonl(path) == [{"a": 1}]
    append_jsonl(path, {"c": 3})
    assert read_jsonl(path) == [{"a": 1}, {"c": 3}]


def test_a_lock_ends_with_its_descriptor(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    lock(first, ConfigError("in use"))
    with pytest.raises(ConfigError, match="in use"):
        lock(second, ConfigError("in use"))
    os.close(first)
    lock(second, ConfigError("in use"))
    os.close(second)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    with (tmp_path / ".lock").open("w") as file:
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output error"):
                lock(file.fileno(), ConfigError("in use"))
            return
        lock(file.fileno(), ConfigError("in use"))
    assert f"the file system has no locks ({os.strerror(number)})" in caplog.text
