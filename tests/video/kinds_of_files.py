"""Makers of one file of every kind, by the name of the file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from numbered_videos import VARIABLE_TIMES_S, cut, cut_after, damage, encode, hide_first_frames

BIG = {"frames": 120, "size": (256, 384), "options": {"crf": "10"}}
X265 = {"x265-params": "log-level=error:open-gop=1:keyint=12:bframes=4"}
SVT = {"svtav1-params": "lp=1"}

# by their number, decord and PyAV read these alike
PLAIN: dict[str, Callable[[Path], Path]] = {
    "b_frames.mp4": encode,
    "no_b_frames.mp4": partial(encode, options={"bf": "0"}),
    "long_gop.mp4": partial(encode, gop=250, options={"bf": "3"}),
    "b_frames.mkv": encode,
    "starts_at_100_s.mp4": partial(encode, start_s=100.0),
    "fragmented.mp4": partial(encode, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "variable.mp4": partial(encode, times_s=VARIABLE_TIMES_S),
    "variable.mkv": partial(encode, times_s=VARIABLE_TIMES_S),
    "odd_size.mp4": partial(encode, size=(63, 97), pixels="yuv444p"),
    "lossless_rgb.mp4": partial(encode, codec="libx264rgb", pixels="rgb24", options={"qp": "0"}),
    "vp9.webm": partial(encode, codec="libvpx-vp9", options={}),
    "motion_jpeg.avi": partial(encode, codec="mjpeg", pixels="yuvj420p", options={}),
    "one_frame.mp4": partial(encode, frames=1),
}

# and these decord gets wrong, or does not open: the first number shown, and words of the reason
PYAV_ONLY: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "transport_at_100_s.ts": (partial(encode, start_s=100.0, format="mpegts"), 0, "no index"),
    "transport.ts": (partial(encode, format="mpegts"), 0, "no index"),
    "open_gop.mp4": (partial(encode, options={"x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}), 0, "open GOP"),
    "hevc_10_bit.mp4": (partial(encode, codec="libx265", pixels="yuv420p10le", options=X265), 0, "open GOP"),
    "negative_start.mp4": (partial(encode, start_s=-0.2), 5, "edit list hides 5 of 60"),
    "edit_list.mp4": (lambda path: _patched(path), 7, "edit list hides 7 of 60"),
    "b_frames.avi": (partial(encode, codec="mpeg4"), 0, "AVI with B-frames"),
}


def _patched(path: Path) -> Path:
    encode(path)
    hide_first_frames(path, 7)
    return path


def _then(change: Callable[..., None], path: Path, **arguments: object) -> Path:
    encode(path, **(BIG | {"container_options": {"movflags": "faststart"}} if path.suffix == ".mp4" else BIG))  # type: ignore[arg-type]
    change(path, **arguments)
    return path


OTHERS: dict[str, Callable[[Path], Path]] = {
    "av1.mp4": partial(encode, codec="libsvtav1", options=SVT),
    "truncated.mp4": lambda path: _then(cut, path, fraction=0.6),
    "cut_between_packets.mp4": lambda path: _then(cut_after, path, packets=71),
    "truncated.mkv": lambda path: _then(cut, path, fraction=0.6),
    "damaged.mp4": lambda path: _then(damage, path, at=0.5),
    "damaged.mkv": lambda path: _then(damage, path, at=0.5),
    "damaged.ts": lambda path: _then(damage, path, at=0.5),
    "quarter_left.mp4": partial(encode, rotation_deg=90),
    "quarter_right.mp4": partial(encode, rotation_deg=-90),
    "upside_down.mp4": partial(encode, rotation_deg=180),
    "mirrored.mp4": partial(encode, rotation_deg=0, mirror=True),
    "bt709.mp4": partial(encode, frames=8, colorspace=1, color_range=1),
    "full_range.mp4": partial(encode, frames=8, pixels="yuvj420p", colorspace=5, color_range=2),
}
