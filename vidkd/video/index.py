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
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import msgspec
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from vidkd.base.errors import VideoError
from vidkd.base.files import atomic_write
from vidkd.video.containers import nominal_fps, opened, reason_of
from vidkd.video.reader import UPRIGHT, Orientation, orientation_of

INDEXED_CONTAINERS = {"mp4", "mov", "matroska", "webm", "avi"}
# codecs of which every packet is one picture: VP8, for one, has packets that show nothing
ONE_PICTURE_A_PACKET = {
    "h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9", "mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "mjpeg",
    "mpeg1video", "mpeg2video", "ffv1", "png", "rawvideo", "huffyuv", "ffvhuff", "dvvideo", "h263", "flv1", "wmv1", "wmv2", "prores",
}  # fmt: skip

Stamps: TypeAlias = npt.NDArray[np.int64]


class Packet(NamedTuple):
    """Stamps of one packet in units of the stream's time base, None where the file has none; in the order of the file."""

    pts: int | None
    dts: int | None
    duration: int | None
    key: bool
    discarded: bool
    corrupt: bool


class PacketIndex(msgspec.Struct, array_like=True, frozen=True, kw_only=True, eq=False):
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
    pts: Any
    keys: Any

    @property
    def size_bytes(self) -> int:
        """About what it takes up in memory."""
        return int(self.pts.nbytes + self.keys.nbytes) + 2048


def read_packets(path: Path | str) -> PacketIndex:
    """Look over the packets of the main video stream; decodes one frame, for its display matrix. Raises VideoError."""
    packets: list[Packet] = []
    first_frame = None
    with opened(path) as (container, stream):
        try:
            for packet in container.demux(stream):
                if packet.size:
                    packets.append(
                        Packet(packet.pts, packet.dts, packet.duration, packet.is_keyframe, packet.is_discard, packet.is_corrupt)
                    )
                if first_frame is None:
                    first_frame = next(iter(_try_decode(packet)), None)
        except av.FFmpegError as error:
            if not packets:
                raise VideoError(f"cannot read video: {path}", reason=reason_of(error)) from error
        if not packets:
            raise VideoError(f"no frames in: {path}", reason="the video stream is empty")
        return _index(stream, packets, UPRIGHT if first_frame is None else orientation_of(first_frame))


def _try_decode(packet: Any) -> Sequence[Any]:
    """Damage is reported by whoever reads the pictures, with the frame's number; here it only means: no frame yet."""
    try:
        frames: Sequence[Any] = packet.decode()
    except av.FFmpegError:
        return ()
    return frames


def _index(stream: Any, packets: Sequence[Packet], orientation: Orientation) -> PacketIndex:
    codec, formats = stream.codec_context, stream.container.format.name.split(",")
    unknown = _why_times_are_unknown(formats, codec.name, bool(codec.has_b_frames), packets)
    unseekable = unknown or _why_not_seekable(packets)
    shown = [] if unknown else sorted((packet for packet in packets if not packet.discarded), key=lambda packet: packet.pts or 0)
    keys = [] if unseekable else sorted((p.pts, p.pts if p.dts is None else p.dts) for p in shown if p.key and p.pts is not None)
    size = (codec.width, codec.height)
    damage = None
    if "mp4" in formats and stream.frames > len(packets):  # MP4 lists its packets; reading just stops where the file was cut between two
        damage = f"the file ends early: {len(packets)} of {stream.frames} frames are there"
    return PacketIndex(
        codec=codec.name,
        width=size[orientation.transposed],
        height=size[not orientation.transposed],
        orientation=orientation,
        time_base=Fraction(stream.time_base),
        fps=nominal_fps(stream),
        last_duration=shown[-1].duration if shown else None,
        problem=unseekable or _why_decord_errs(stream, packets, orientation),
        damage=damage,
        pts=_read_only(np.array([packet.pts for packet in shown], np.int64)),
        keys=_read_only(np.array(keys, np.int64).reshape(-1, 2)),
    )


def _read_only(stamps: Stamps) -> Stamps:
    """Since readers share it."""
    stamps.flags.writeable = False
    return stamps


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
    return "presentation times repeat" if len(set(shown)) < len(shown) or not shown else None


def _why_not_seekable(packets: Sequence[Packet]) -> str | None:
    hidden = sum(packet.discarded for packet in packets)
    if hidden:
        return f"an edit list hides {hidden} of {len(packets)} frames"
    return None if packets[0].key else "the first frame is not a key frame"


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


FORMAT = 2
Record: TypeAlias = tuple[int, int, PacketIndex]
"""Size and time of modification of a file, and what its packets tell."""


def _packed(value: Any) -> Any:
    """Fractions as two numbers, stamps as compressed differences, of which most are alike."""
    if isinstance(value, Fraction):
        return value.as_integer_ratio()
    return zlib.compress(np.diff(value.reshape(-1), prepend=0).astype("<i8").tobytes(), 1)


def _unpacked(packed: bytes) -> Stamps:
    return _read_only(np.cumsum(np.frombuffer(zlib.decompress(packed), "<i8"), dtype=np.int64))


_encoder = msgspec.msgpack.Encoder(enc_hook=_packed)
_decoder = msgspec.msgpack.Decoder(Record, dec_hook=lambda _kind, value: Fraction(*value))
_stored: dict[str, bytes] = {}
"""Records by the path of the file, of all index files that this process knows."""


def index_record(path: Path | str, *, problem: str | None = None) -> str:
    """The record of one video as text, read from its packets (in a worker process). Raises VideoError if it is no video.

    problem: why decord must not read it, where that was found out by decoding.
    """
    status, index = os.stat(path), read_packets(path)  # noqa: PTH116
    index = msgspec.structs.replace(index, problem=index.problem or problem)
    return base64.b85encode(_encoder.encode((status.st_size, status.st_mtime_ns, index))).decode()


def write_index_file(path: Path, records: Mapping[str, str]) -> None:
    """Write the records of files, by their path from the data root. Raises WriteError."""
    with atomic_write(path, "wb") as file:
        file.write(msgspec.msgpack.encode((FORMAT, {name: base64.b85decode(text) for name, text in records.items()})))


@functools.lru_cache(maxsize=64)
def use_index_file(path: Path, root: Path) -> None:
    """Have this process open the files below `root` by their records in `path`, as long as they are unchanged; without the file by reading.

    Raises VideoError for a file of another kind.
    """
    if not path.exists():
        return
    try:
        number, records = msgspec.msgpack.decode(path.read_bytes(), type=tuple[int, dict[str, bytes]])
    except msgspec.DecodeError as error:
        raise VideoError(f"not an index of videos: {path}", reason=error, hint="vidkd prepare_data writes it again") from None
    if number == FORMAT:
        _stored.update((str(root / name), record) for name, record in records.items())


def stored_index(name: str, status: os.stat_result) -> PacketIndex | None:
    """The index of a file from its record; None if there is none, or of a file of another size or time of modification."""
    if name not in _stored:
        return None
    size, mtime_ns, index = _decoder.decode(_stored[name])
    if (size, mtime_ns) != (status.st_size, status.st_mtime_ns):
        return None
    return msgspec.structs.replace(index, pts=_unpacked(index.pts), keys=_unpacked(index.keys).reshape(-1, 2))
