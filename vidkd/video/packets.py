"""What a file's packets tell before anything is decoded: presentation times, key frames, and whether an index into it can be trusted.

Decord seeks by tables that are right for plain files only. Reading the packets takes some ten microseconds each, so every file is looked
over when it is first opened, and those of the kinds on which decord was seen to hand out another frame than the one asked for are kept
from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from vidkd.base.errors import VideoError
from vidkd.video.containers import nominal_fps, open_container, reason_of, video_stream
from vidkd.video.orientation import UPRIGHT, Orientation, orientation_of

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
