"""What a file's packets tell before anything is decoded: presentation times, key frames, and whether an index into it can be trusted.

Decord seeks by tables that are right for plain files only. Reading the packets takes some ten microseconds each, so every file is looked
over when it is first opened, and those of the kinds on which decord was seen to hand out another frame than the one asked for are kept
from it.

The indexes of many files are kept in one file next to a manifest, so that training opens a video without reading it through.
"""

import base64
import functools
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import msgspec
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from vidkd.base.errors import VideoError
from vidkd.base.files import atomic_write
from vidkd.video.containers import nominal_fps, open_container, reason_of, video_stream
from vidkd.video.types import UPRIGHT, Orientation, orientation_of

INDEXED_CONTAINERS = {"mp4", "mov", "matroska", "webm", "avi"}
# codecs of which every packet is one picture: VP8, for one, has packets that show nothing
ONE_PICTURE_A_PACKET = {
    "h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9", "mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "mjpeg",
    "mpeg1video", "mpeg2video", "ffv1", "png", "rawvideo", "huffyuv", "ffvhuff", "dvvideo", "h263", "flv1", "wmv1", "wmv2", "prores",
}  # fmt: skip


Stamps = npt.NDArray[np.int64]


class Packet(NamedTuple):
    """Stamps of one packet in units of the stream's time base, None where the file has none; in the order of the file."""

    pts: int | None
    dts: int | None
    duration: int | None
    key: bool
    discarded: bool
    corrupt: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """What the packets of a file tell; its readers in one process share it.

    problem: why reading by index must not be left to decord, None if nothing speaks against it.
    damage: why some of the frames that the file promises are not in it, None if nothing says so.
    pts: presentation stamps of all frames (N,), rising, in units of time_base; empty if only decoding can tell them.
    keys: pts and dts of the frames at which decoding can start (K, 2), rising; empty if the file must be read from its beginning.
    """

    codec: str
    width: int
    height: int
    orientation: Orientation
    time_base: Fraction
    fps: Fraction
    last_duration: int | None
    problem: str | None
    damage: str | None
    pts: Stamps
    keys: Stamps

    @property
    def size_bytes(self) -> int:
        """About what it takes up in memory."""
        return self.pts.nbytes + self.keys.nbytes + 2048


def read_packets(path: Path | str) -> PacketIndex:
    """Look over the packets of the main video stream; decodes one frame, for its display matrix. Raises VideoError."""
    container = open_container(path)
    try:
        stream = video_stream(container, path, threads=1)
        packets, orientation = _demux(container, stream)
        if not packets:
            raise VideoError(f"no frames in: {path}", reason="the video stream is empty")
        return _index(container.format.name.split(","), stream, packets, orientation)
    finally:
        container.close()


def _demux(container: Any, stream: Any) -> tuple[list[Packet], Orientation]:
    packets: list[Packet] = []
    first_frame = None
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_stamps(packet))
            if first_frame is None:
                first_frame = next(iter(_try_decode(packet)), None)
    except av.FFmpegError as error:
        if not packets:
            raise VideoError(f"cannot read video: {container.name}", reason=reason_of(error)) from error
    return packets, orientation_of(first_frame) if first_frame is not None else UPRIGHT


def _try_decode(packet: Any) -> Sequence[Any]:
    """Damage is reported by whoever reads the pictures, with the frame's number; here it only means: no frame yet."""
    try:
        frames: Sequence[Any] = packet.decode()
    except av.FFmpegError:
        return ()
    return frames


def _stamps(packet: Any) -> Packet:
    return Packet(packet.pts, packet.dts, packet.duration, packet.is_keyframe, packet.is_discard, packet.is_corrupt)


def _index(formats: Sequence[str], stream: Any, packets: Sequence[Packet], orientation: Orientation) -> PacketIndex:
    codec = stream.codec_context
    unknown = _why_times_are_unknown(formats, codec.name, bool(codec.has_b_frames), packets)
    unseekable = unknown or _why_not_seekable(packets)
    shown = [] if unknown else sorted((packet for packet in packets if not packet.discarded), key=lambda packet: packet.pts or 0)
    keys = [] if unseekable else sorted((p.pts, p.pts if p.dts is None else p.dts) for p in shown if p.key and p.pts is not None)
    width, height = orientation.size(codec.width, codec.height)
    return PacketIndex(
        codec=codec.name,
        width=width,
        height=height,
        orientation=orientation,
        time_base=Fraction(stream.time_base),
        fps=nominal_fps(stream),
        last_duration=shown[-1].duration if shown else None,
        problem=unseekable or _why_decord_errs(stream, packets, orientation),
        damage=_what_is_missing(formats, stream, packets),
        pts=_stamp_array([packet.pts for packet in shown if packet.pts is not None]),
        keys=_stamp_array(keys).reshape(-1, 2),
    )


def _stamp_array(stamps: Sequence[int] | Sequence[tuple[int, int]]) -> Stamps:
    """Read-only, since readers share it."""
    array = np.array(stamps, np.int64)
    array.flags.writeable = False
    return array


def _what_is_missing(formats: Sequence[str], stream: Any, packets: Sequence[Packet]) -> str | None:
    """MP4 lists its packets in one table; reading just stops where the file was cut between two of them."""
    if "mp4" not in formats or stream.frames <= len(packets):
        return None
    return f"the file ends early: {len(packets)} of {stream.frames} frames are there"


def _why_times_are_unknown(formats: Sequence[str], codec: str, b_frames: bool, packets: Sequence[Packet]) -> str | None:
    if not INDEXED_CONTAINERS & set(formats):
        return f"the container '{formats[0]}' has no index of its frames"
    if codec not in ONE_PICTURE_A_PACKET:
        return f"packets of the codec '{codec}' may hold no picture"
    if "avi" in formats and (b_frames or codec in ("h264", "hevc")):
        return "AVI with B-frames stores no presentation times"
    if any(packet.corrupt for packet in packets):
        return "a packet is damaged or cut off"
    if any(packet.pts is None for packet in packets):
        return "packets without a presentation time"
    shown = [packet.pts for packet in packets if not packet.discarded]
    if len(set(shown)) < len(shown) or not shown:
        return "presentation times repeat"
    return None


def _why_not_seekable(packets: Sequence[Packet]) -> str | None:
    hidden = sum(packet.discarded for packet in packets)
    if hidden:
        return f"an edit list hides {hidden} of {len(packets)} frames"
    if not packets[0].key:
        return "the first frame is not a key frame"
    return None


def _why_decord_errs(stream: Any, packets: Sequence[Packet], orientation: Orientation) -> str | None:
    others = [other for other in stream.container.streams.video if not other.disposition & Disposition.attached_pic]
    if len(others) > 1:
        return f"the file holds {len(others)} streams of pictures, of which decoders choose differently"
    leading, key_pts = 0, packets[0].pts or 0
    for packet in packets:
        key_pts = (packet.pts or 0) if packet.key else key_pts
        leading += (packet.pts or 0) < key_pts
    if leading:
        return f"{leading} frames are stored after a key frame and shown before it (open GOP)"
    return "the picture is mirrored by its display matrix" if orientation.mirrored else None


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
