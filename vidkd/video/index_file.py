"""The index of the packets of many files, computed once and kept in one file: training opens a video without reading it through."""

import base64
import functools
import os
import zlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np

from vidkd.base.errors import VideoError
from vidkd.base.files import atomic_write
from vidkd.video.orientation import Orientation
from vidkd.video.packets import PacketIndex, Stamps, read_packets

FORMAT = 1


class _Record(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A `PacketIndex`, and size and time of modification of its file; stamps as compressed differences, of which most are alike."""

    size: int
    mtime_ns: int
    codec: str
    width: int
    height: int
    orientation: tuple[bool, bool, bool]
    time_base: tuple[int, int]
    fps: tuple[int, int]
    last_duration: int | None
    problem: str | None
    damage: str | None
    pts: bytes
    keys: bytes


class _IndexFile(msgspec.Struct, array_like=True):
    format: int
    records: dict[str, bytes]


_stored: dict[str, bytes] = {}
"""Records by the path of the file, of all index files that this process was told of."""


def index_record(path: Path | str) -> str:
    """The record of one video as text, read from its packets (in a worker process). Raises VideoError if it is no video."""
    status = os.stat(path)  # noqa: PTH116
    index = read_packets(path)
    turned = index.orientation
    record = _Record(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        codec=index.codec,
        width=index.width,
        height=index.height,
        orientation=(turned.transposed, turned.flip_columns, turned.flip_rows),
        time_base=index.time_base.as_integer_ratio(),
        fps=index.fps.as_integer_ratio(),
        last_duration=index.last_duration,
        problem=index.problem,
        damage=index.damage,
        pts=_packed(index.pts),
        keys=_packed(index.keys),
    )
    return base64.b85encode(msgspec.msgpack.encode(record)).decode()


def write_index_file(path: Path, records: Mapping[str, str]) -> None:
    """Write the records of files, by their path from the data root. Raises WriteError."""
    with atomic_write(path, "wb") as file:
        file.write(msgspec.msgpack.encode(_IndexFile(FORMAT, {name: base64.b85decode(text) for name, text in records.items()})))


@functools.lru_cache(maxsize=64)
def use_index_file(path: Path, root: Path) -> None:
    """Have this process open the files below `root` by their records in `path`, as long as they are unchanged; without the file by reading.

    Raises VideoError for a file of another kind.
    """
    if not path.exists():
        return
    try:
        content = msgspec.msgpack.decode(path.read_bytes(), type=_IndexFile)
    except msgspec.DecodeError as error:
        raise VideoError(f"not an index of videos: {path}", reason=error, hint="vidkd prepare_data writes it again") from None
    if content.format == FORMAT:
        _stored.update((str(root / name), record) for name, record in content.records.items())


def stored_index(name: str, status: os.stat_result) -> PacketIndex | None:
    """The index of a file from its record; None if there is none, or of a file of another size or time of modification."""
    packed = _stored.get(name)
    record = None if packed is None else msgspec.msgpack.decode(packed, type=_Record)
    if record is None or (record.size, record.mtime_ns) != (status.st_size, status.st_mtime_ns):
        return None
    transposed, columns, rows = record.orientation
    return PacketIndex(
        codec=record.codec,
        width=record.width,
        height=record.height,
        orientation=Orientation(transposed=transposed, flip_columns=columns, flip_rows=rows),
        time_base=Fraction(*record.time_base),
        fps=Fraction(*record.fps),
        last_duration=record.last_duration,
        problem=record.problem,
        damage=record.damage,
        pts=_unpacked(record.pts),
        keys=_unpacked(record.keys).reshape(-1, 2),
    )


def _packed(stamps: Stamps) -> bytes:
    return zlib.compress(np.diff(stamps.reshape(-1), prepend=0).astype("<i8").tobytes(), 1)


def _unpacked(packed: bytes) -> Stamps:
    stamps = np.cumsum(np.frombuffer(zlib.decompress(packed), "<i8"), dtype=np.int64)
    stamps.flags.writeable = False
    return stamps
