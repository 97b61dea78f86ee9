"""Videos whose frames carry their own number, encoded with PyAV in all the ways that files come."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TIME_BASE = Fraction(1, 12800)
# gaps of 1, 1, 3, 1 and 2 frames of 40 ms, over and over
VARIABLE_TIMES_S = np.cumsum([0.0, *[0.04, 0.04, 0.12, 0.04, 0.08] * 12])[:60]


def numbered_image(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """The number in binary as eight light or dark bars in the upper half, and a moving block below."""
    image = np.full((height, width, 3), 90, np.uint8)
    bar = width // 8
    for bit in range(8):
        image[: height // 2, bit * bar : (bit + 1) * bar] = 230 if (number >> bit) & 1 else 20
    image[height // 2 :, (number * 3) % width : (number * 3) % width + 10] = (200, 60, 40)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that a decoded numbered image carries."""
    height, width = image.shape[:2]
    bar = width // 8
    return sum(
        1 << bit for bit in range(8) if image[height // 8 : height // 2 - height // 8, bit * bar + 2 : (bit + 1) * bar - 2].mean() > 125
    )


def numbers_of(images: Sequence[np.ndarray] | np.ndarray) -> list[int]:
    return [number_of(image) for image in images]


def encode(
    path: Path,
    *,
    frames: int = 60,
    size: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    start_s: float = 0.0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
    rotation_deg: float | None = None,
    mirror: bool = False,
    colorspace: int | None = None,
    color_range: int | None = None,
) -> Path:
    """Numbered frames at 25 a second, or at `times_s`, stamps shifted by `start_s`."""
    height, width = size
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = add_stream(container, size, codec, pixels, gop, options)
        if rotation_deg is not None:
            stream.set_display_rotation(rotation_deg, hflip=mirror)
        if colorspace is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_image(number, height, width), format="rgb24")
            frame.pts = round(((number / 25 if times_s is None else times_s[number]) + start_s) / TIME_BASE)
            frame.time_base = TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_stream(container: Any, size: tuple[int, int], codec: str, pixels: str, gop: int, options: dict[str, str] | None) -> Any:
    stream = container.add_stream(codec, rate=25)
    stream.height, stream.width = size
    stream.pix_fmt = pixels
    stream.codec_context.gop_size = gop
    stream.codec_context.time_base = stream.time_base = TIME_BASE
    stream.options = options if options is not None else {"bf": "2"}
    return stream


def hide_first_frames(path: Path, count: int) -> None:
    """Patch the edit list of an MP4 so that its first `count` frames are not shown."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4
    version, entries, _, media_time = content[at], *struct.unpack_from(">IIi", content, at + 4)
    assert (version, entries) == (0, 1)
    struct.pack_into(">i", content, at + 12, media_time + count * round(Fraction(1, 25) / TIME_BASE))
    path.write_bytes(content)


def damage(path: Path, *, at: float, length: int = 3000) -> None:
    """Overwrite bytes with zeros at this fraction of the file."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * at)
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def cut(path: Path, fraction: float) -> None:
    """Keep only the beginning of a file, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


def cut_after(path: Path, packets: int) -> None:
    """Keep a file up to the end of one of its packets: nothing that is there is damaged."""
    with av.open(str(path)) as container:
        ends = [packet.pos + packet.size for packet in container.demux() if packet.size]
    path.write_bytes(path.read_bytes()[: ends[packets - 1]])
