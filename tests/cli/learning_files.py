"""A student of some hundred weights, an oracle that reads boxes off the pixels, and the videos in which it sees them."""

from pathlib import Path

import numpy as np
import torch
from darknet_cfgs import stacked_cfg
from picture_model import picture_model

from vidkd.video import write_video

STUDENT_NAMES = ("dog", "cat", "bird")

CFG = stacked_cfg([(8, 8)], classes=3, anchors=[(8, 8), (16, 16), (24, 24)], side=32)


def student_arguments(folder: Path, seed: int = 0) -> list[str]:
    """The files of a student, written into a folder, as arguments."""
    from vidkd.models.darknet import Darknet, parse_cfg, save_weights

    torch.manual_seed(seed)
    (folder / "light.cfg").write_text(CFG)
    (folder / "light.names").write_text("".join(f"{name}\n" for name in STUDENT_NAMES))
    save_weights(Darknet(parse_cfg(CFG)), folder / "light.weights")
    return [f"--{flag}={folder / name}" for flag, name in (("model", "light.cfg"), ("weights", "light.weights"), ("names", "light.names"))]


def oracle_arguments(folder: Path) -> list[str]:
    """The oracle's file, which knows cats and dogs, as an argument."""
    return [f"--oracle={picture_model(folder / 'heavy.onnx')}"]


def make_video(path: Path, frames: int = 20, shift: float = 0.0) -> Path:
    """A cat that grows, and from the middle on a dog; 64 x 64 at 10 frames a second. Each number that the oracle reads fills a square."""
    pictures = []
    for index in range(frames):
        values = np.zeros(48)
        values[:6] = (0, 0, 0.3 + shift + 0.4 * index / frames, 0.5, 0.9, 0)
        if index >= frames // 2:
            values[6:12] = (0.5, 0.5, 1, 1, 0.6, 1)
        pictures.append(np.kron((values * 255).round().astype(np.uint8).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8)))
    write_video(path, pictures, fps=10, lossless=True)
    return path
