"""Textured pictures that move in a known way, and small clips of them."""

from pathlib import Path

import cv2
import numpy as np

from vidkd.data.footage import Footage, FootageConfig, read_seen
from vidkd.data.manifest import Clip
from vidkd.data.observation import Request
from vidkd.video import write_video

MARGIN = 48


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise at three scales, uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for blur in (1.5, 4.0, 10.0):
        layer = cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), blur)
        total += layer / layer.std()
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)


def moved(height: int, width: int, matrix: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame, the same after every point x of it went to matrix @ (x, 1), and the true flow (height, width, 2)."""
    big = texture(height + 2 * MARGIN, width + 2 * MARGIN, seed)
    to_big = np.array([[1, 0, MARGIN], [0, 1, MARGIN]], np.float64)
    linear, shift = matrix[:, :2], matrix[:, 2]
    back = np.linalg.inv(linear)
    # point u of the second frame shows what was at back @ (u - shift) in the first
    second = cv2.warpAffine(
        big,
        np.hstack([back, (-back @ shift + to_big[:, 2])[:, None]]),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    )
    first = big[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    points = np.stack([x, y], -1)
    return first, second, points @ linear.T + shift - points


def translation(dx: float, dy: float) -> np.ndarray:
    return np.array([[1, 0, dx], [0, 1, dy]], np.float64)


def about(height: int, width: int, angle_deg: float = 0.0, zoom: float = 1.0) -> np.ndarray:
    """Rotation and zoom about the middle of the frame."""
    angle = np.deg2rad(angle_deg)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


def epe(flow: np.ndarray, truth: np.ndarray, border: int = 16) -> float:
    """Mean endpoint error in pixels, away from the border."""
    inner = (slice(border, -border), slice(border, -border))
    return float(np.linalg.norm(flow[inner] - truth[inner], axis=-1).mean())


def panning(frames: int, height: int = 48, width: int = 64, dx: int = 1, dy: int = 0, seed: int = 0) -> list[np.ndarray]:
    """A window that moves over a texture by (-dx, -dy) a frame, so that the picture moves by (dx, dy)."""
    big = texture(height + abs(dy) * frames, width + abs(dx) * frames, seed)
    top, left = (abs(dy) * frames if dy > 0 else 0), (abs(dx) * frames if dx > 0 else 0)
    return [big[top - dy * i : top - dy * i + height, left - dx * i : left - dx * i + width] for i in range(frames)]


def write_panning(path: Path, frames: int = 24, **how: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, iter(panning(frames, **how)), fps=25, crf=10)
    return path


def clip(path: str, label: int | None = 0, group: str = "g", **more: object) -> Clip:
    return Clip(path=path, label=label, group=group, subsets={"1": "train"}, **more)  # type: ignore[arg-type]


def read_window(path: Path, clip: Clip, config: FootageConfig, *, position: float, want_flow: bool) -> Footage:
    """One window of a clip, as the student sees it."""
    return read_seen(path, clip, config, Request(position=position, flow=want_flow))[0]
