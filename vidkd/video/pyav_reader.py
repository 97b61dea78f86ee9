"""Reading with PyAV: frames are found by their presentation stamps, or by decoding from the beginning."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidkd.base.errors import VideoError
from vidkd.base.lru import LRUCache
from vidkd.video.containers import RgbConverter, decoded_frames, open_container, opened, video_stream
from vidkd.video.index import PacketIndex
from vidkd.video.reader import Image, Times, VideoInfo, VideoReader


def presentation_times(pts: Sequence[int | None], dts: Sequence[int | None], time_base: Fraction, frame_s: float) -> Times:
    """Times in seconds from the first frame, strictly increasing, for frames in the order in which a decoder gives them out.

    pts, dts: stamps of the decoded frames in units of `time_base`, None where there is none. frame_s: nominal length of a frame.
    A decoder gives frames out in the order of display, so stamps that go back are wrong (AVI stores none for files with B-frames
    and they are guessed while reading): then the decoding stamps count, which rise by one a frame, and failing them the frame rate.
    """
    dts = list(dts)
    known = len(dts) - sum(1 for _ in itertools.takewhile(lambda stamp: stamp is None, reversed(dts)))
    if 2 <= known < len(dts) and dts[known - 1] is not None and dts[known - 2] is not None:
        # the last frames come out of a decoder when the file has ended, without a stamp: count on from the last one that has one
        step = dts[known - 1] - dts[known - 2]  # type: ignore[operator]
        dts[known:] = [dts[known - 1] + step * number for number in range(1, len(dts) - known + 1)]  # type: ignore[operator]
    for stamps in (pts, dts):
        found = [stamp for stamp in stamps if stamp is not None]
        if found and len(found) == len(stamps) and all(a < b for a, b in itertools.pairwise(found)):
            return in_seconds([stamp - found[0] for stamp in found], time_base)
    return np.arange(len(pts), dtype=np.float64) * frame_s


def in_seconds(ticks: Sequence[int] | npt.NDArray[np.int64], time_base: Fraction) -> Times:
    """Seconds of multiples of `time_base` that rise from 0, each the double nearest to the fraction, as numerators stay below 2^53."""
    return np.asarray(ticks, np.int64) * time_base.numerator / time_base.denominator


def end_s(times_s: Times, last_duration: int | None, time_base: Fraction, nominal_s: float) -> float:
    """When the last frame ends: its length is as its packet declares, or the usual gap where that is missing or a mere tick of the clock.

    nominal_s: length of a frame by the frame rate. 0 without frames.
    """
    if not len(times_s):
        return 0.0
    typical_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else nominal_s
    declared_s = float((last_duration or 0) * time_base)
    return float(times_s[-1]) + (declared_s if declared_s >= 0.5 * typical_s else typical_s)


class Timeline:
    """Collects the stamps of decoded frames; `times` once all have passed through `add`."""

    def __init__(self, stream: Any, fps: Fraction) -> None:
        self._time_base, self._frame_s = stream.time_base, float(1 / fps)
        self._pts: list[int | None] = []
        self._dts: list[int | None] = []
        self._last_duration: int | None = None

    def add(self, frame: Any) -> None:
        """Take the stamps of the next decoded frame."""
        self._pts.append(frame.pts)
        self._dts.append(frame.dts)
        self._last_duration = frame.duration

    def times(self) -> tuple[Times, float]:
        """Presentation times, float64 (N,), from 0, and duration in seconds."""
        times_s = presentation_times(self._pts, self._dts, self._time_base, self._frame_s)
        return times_s, end_s(times_s, self._last_duration, self._time_base, self._frame_s)


SPARSE = 2
"""Where as many times more frames are passed than asked for, those in between are left out as far as decoding allows it."""

Known = tuple[Times, float, str | None]
"""Presentation times, duration in seconds, and what is missing."""

_decoded_times: LRUCache[PacketIndex, Known] = LRUCache(most_entries=65_536, most_bytes=64 * 2**20)


class FrameCursor:
    """A place in a file being decoded, that moves forward by decoding and jumps by seeking where the packets allow it.

    After a jump frames are identified by their stamps; one that is not where the packets said ends the jumping for good. Where few frames
    of a stretch are asked for, pictures in between on which no other depends are not decoded.
    """

    def __init__(self, path: str, index: PacketIndex, threads: int) -> None:
        self._path, self._index, self._threads = path, index, threads
        self._key_places = np.searchsorted(index.pts, index.keys[:, 0])
        self._rgb = RgbConverter(threads)
        self._wanted: frozenset[int] | None = None  # the stamps of all frames that are needed, if others are left out
        self._frames: Iterator[Any]
        self._open()

    def images(self, indices: Sequence[int]) -> Iterator[Image]:
        """Upright images of these frames, rising. Raises VideoError if one cannot be decoded."""
        left_out = self._wanted is not None  # of what the decoder holds now
        sparse = len(self._key_places) > 0 and indices[-1] - indices[0] >= SPARSE * len(indices)
        self._wanted = frozenset(self._index.pts[list(indices)].tolist()) if sparse else None
        if left_out or sparse:
            self._next = len(self._index.pts) + 1  # what follows may lack frames: seek
        for index in indices:
            yield self._image(index)

    def stream(self, start: int) -> Iterator[Image]:
        """Upright images of all frames from `start` on."""
        if start:
            yield self._image(start)
        for frame in self._frames:
            yield self._upright(frame)

    def close(self) -> None:
        """Give back decoder and file."""
        self._frames = iter(())
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self._path)
        self._stream = video_stream(self._container, self._path, self._threads)
        self._frames = self._decoded()
        self._next = 0

    def _decoded(self) -> Iterator[Any]:
        return decoded_frames(self._container, self._stream, self._path, needed=self._is_needed)

    def _is_needed(self, packet: Any) -> bool:
        return self._wanted is None or packet.pts in self._wanted

    def _image(self, wanted: int) -> Image:
        number = int(np.searchsorted(self._key_places, wanted, side="right")) - 1
        if number >= 0 and (wanted < self._next or self._key_places[number] > self._next):
            self._jump(int(self._key_places[number]), int(self._index.keys[number, 1]))
        elif wanted < self._next:
            self._restart()
        while True:
            place, frame = self._advance()
            if place == wanted:
                return self._upright(frame)
            if place > wanted:  # it was left out although it is needed: begin again and decode everything
                self._key_places = self._key_places[:0]
                self._restart()

    def _upright(self, frame: Any) -> Image:
        return self._index.orientation.apply(self._rgb(frame))

    def _advance(self) -> tuple[int, Any]:
        frame = next(self._frames, None)
        if frame is None and self._wanted is not None:
            self._restart()
            frame = next(self._frames, None)
        if frame is None:
            raise VideoError(f"the video ends early: {self._path}", missing_frame=self._next)
        place = self._next if self._wanted is None else self._place(frame)
        self._next = self._next + 1 if place is None else place + 1
        return self._next - 1, frame

    def _jump(self, key: int, dts: int) -> None:
        """Seek, then drop what comes before the key frame. The seek may land earlier; that is only slower."""
        self._container.seek(dts, stream=self._stream, backward=True)
        frames = self._decoded()
        for frame in frames:
            place = self._place(frame)
            if place == key or (self._wanted is not None and place is not None and place >= key):
                self._frames, self._next = itertools.chain([frame], frames), key
                return
            if place is None or place > key:
                break
        self._key_places = self._key_places[:0]
        self._restart()

    def _place(self, frame: Any) -> int | None:
        """Which frame this is by its stamp, None if the packets know no such stamp."""
        place = len(self._index.pts) if frame.pts is None else int(np.searchsorted(self._index.pts, frame.pts))
        return place if place < len(self._index.pts) and self._index.pts[place] == frame.pts else None

    def _restart(self) -> None:
        self._wanted = None
        self._container.close()
        self._open()


class PyavReader(VideoReader):
    """Finds frames along the index of the file's packets, or in order where they tell too little; raises at damage."""

    backend = "pyav"

    def __init__(self, path: Path | str, index: PacketIndex, *, short_side: int | None, threads: int = 1) -> None:
        super().__init__(str(path), short_side)
        self._index, self._threads = index, threads
        self._cursor: FrameCursor | None = None
        self._known: Known | None = None

    @property
    def timestamps_s(self) -> Times:
        """See VideoReader. Decodes the file once, without converting pictures, if its packets do not tell the times."""
        return self._times()[0]

    @property
    def info(self) -> VideoInfo:
        """See VideoReader; as expensive as `timestamps_s`."""
        times_s, duration_s, damage = self._times()
        return VideoInfo(
            path=self.path,
            backend=self.backend,
            codec=self._index.codec,
            width=self._index.width,
            height=self._index.height,
            frame_count=len(times_s),
            average_fps=len(times_s) / duration_s,
            duration_s=duration_s,
            damage=damage,
        )

    def _times(self) -> Known:
        index = self._index
        if self._known is None and len(index.pts):
            times_s = in_seconds(index.pts - index.pts[0], index.time_base)
            self._known = times_s, end_s(times_s, index.last_duration, index.time_base, float(1 / index.fps)), index.damage
        elif self._known is None:
            self._known = _decoded_times.get(index)  # kept as long as the packets are: a file that changed has others
        if self._known is None:
            self._known = self._decode_times()
            self._known[0].flags.writeable = False
            _decoded_times.put(index, self._known, self._known[0].nbytes + index.size_bytes)
        return self._known

    def _decode_times(self) -> Known:
        damage = None
        with opened(self.path, threads=self._threads) as (container, stream):
            timeline = Timeline(stream, self._index.fps)
            try:
                for frame in decoded_frames(container, stream, self.path):
                    timeline.add(frame)
            except VideoError as error:
                damage = error.lines["reason"]
        times_s, duration_s = timeline.times()
        if not len(times_s):
            raise VideoError(f"no frame can be decoded: {self.path}", reason=damage or "the video stream is empty")
        return times_s, duration_s, damage

    def _images(self, indices: Sequence[int]) -> Iterator[Image]:
        self._cursor = self._cursor or FrameCursor(self.path, self._index, self._threads)
        yield from self._cursor.images(indices)

    def _images_from(self, start_index: int) -> Iterator[Image]:
        cursor = FrameCursor(self.path, self._index, self._threads)
        try:
            yield from cursor.stream(start_index)
        finally:
            cursor.close()

    def _release(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
