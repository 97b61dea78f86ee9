"""Strips of a clip: its frames, its flow and the attention of teacher and student, side by side as small images."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.report.moments import TIME_ROW, Moment, time_line
from vidkd.report.parts import Strip

GAP_PX = 3
FRAMES, HEIGHT_PX = 8, 80
"""Frames that a strip shows, spread evenly, and their height."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one side sees of a clip.

    rgb: (T, H, W, 3) uint8. flow: (T, h, w, 2), dx and dy in pixels. attention: whose -> (T', h, w) probabilities (not their logarithms),
    and the displacement of their grid in cells, see `vidkd.models.backbone.Stage`; T' may be smaller than T, each map then represents T/T'
    frames.
    """

    rgb: NDArray[np.uint8]
    flow: NDArray[np.floating] | None = None
    attention: Mapping[str, tuple[NDArray[np.floating], float]] = field(default_factory=dict)

    def rows(self, name: str, flow_name: str) -> list[tuple[str, str]]:
        """FRAMES of the frames, the flow at these, and each attention over them."""
        count = len(self.rgb)
        shown = np.unique(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int))
        pictures = {name: [_fit(self.rgb[index]) for index in shown]}
        if self.flow is not None:
            longest = largest_motion(self.flow)
            pictures[flow_name] = [_fit(flow_picture(self.flow[index], longest)) for index in shown]
        for whose, (maps, shift) in self.attention.items():
            of_frames = zip(pictures[name], (maps[index * len(maps) // count] for index in shown), strict=True)
            pictures[whose] = [attention_overlay(picture, cells, float(np.max(maps)), shift) for picture, cells in of_frames]
        return [(row, png_data_uri(side_by_side(each))) for row, each in pictures.items()]


def clip_strip(part: Part, *, label: str | None = None, predicted: str | None = None, name: str = "") -> Strip:
    """The strip of one clip of which student and teacher see the same window."""
    return _strip(part.rows("frames", "flow"), label, predicted, name)


def observed_strip(
    observed: Part,
    future: Part,
    moment: Moment,
    *,
    taught: bool,
    held_future: bool = False,
    label: str | None = None,
    predicted: str | None = None,
    name: str = "",
) -> Strip:
    """The strip of one clip that was to be named from its observed part: that part, when, and what the teacher saw (`taught`) or what came.

    held_future: the second part is so short that frames of it repeat, which is said.
    """
    width_px = min(FRAMES, len(observed.rgb)) * (_fit(observed.rgb[0]).shape[1] + GAP_PX) - GAP_PX
    second = "teacher sees" if taught else "what came"
    line = (TIME_ROW, png_data_uri(time_line(moment, width_px)))
    rows = [*observed.rows("observed", "observed flow"), line, *future.rows(second, "its flow")]
    words = moment.words() + (f"; frames of what {'the teacher sees' if taught else 'came'} repeat" if held_future else "")
    return _strip(rows, label, predicted, f"{name}: {words}" if name else words)


def _strip(rows: Sequence[tuple[str, str]], label: str | None, predicted: str | None, caption: str) -> Strip:
    named = {word: value for word, value in (("true", label), ("predicted", predicted)) if value is not None}
    title = " \N{RIGHTWARDS ARROW} ".join(f"{word} {value}" for word, value in named.items())
    right = label == predicted if len(named) == 2 else None
    return Strip(title=title or caption, rows=tuple(rows), caption=caption if title else "", right=right)


def flow_picture(flow: NDArray[np.floating], longest: float | None = None) -> NDArray[np.uint8]:
    """Flow (H, W, 2) as colours (H, W, 3): the hue is the direction, red to the right and on to yellow-green downwards; black is still.

    longest: length in pixels that gets full colour, by default `largest_motion`.
    """
    dx, dy = (np.asarray(flow[..., axis], dtype=np.float32) for axis in (0, 1))
    longest = largest_motion(flow) if longest is None else longest
    angle = np.mod(np.degrees(np.arctan2(dy, dx)), 360).astype(np.float32)
    strength = np.clip(np.hypot(dx, dy) / max(longest, 1e-6), 0, 1).astype(np.float32)
    hsv = np.stack([angle, np.ones_like(strength), strength], axis=-1)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    picture: NDArray[np.uint8] = np.rint(rgb * 255).astype(np.uint8)
    return picture


def largest_motion(flow: NDArray[np.floating]) -> float:
    """Length in pixels that all but one in a hundred vectors stay below, at least one: noise of a still clip stays dark."""
    return max(1.0, float(np.percentile(np.hypot(flow[..., 0].astype(np.float32), flow[..., 1].astype(np.float32)), 99)))


def attention_overlay(
    frame: NDArray[np.uint8], attention: NDArray[np.floating], most: float | None = None, shift_cells: float = 0.0
) -> NDArray[np.uint8]:
    """Attention (h, w) as heat over a grey frame (H, W, 3); most: the value of full heat, by default the map's own maximum.

    shift_cells: displacement of the map's grid, see `vidkd.models.backbone.Stage`.
    """
    most = float(np.max(attention)) if most is None else most
    height, width = frame.shape[:2]
    weight = np.asarray(attention, dtype=np.float32) / max(most, 1e-12)
    heat = np.clip(spread_map(weight, height, width, shift_cells), 0, 1)
    colour = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    grey = np.repeat(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1).astype(np.float32)
    alpha = 0.85 * np.sqrt(heat)[..., None]
    mixed: NDArray[np.uint8] = np.rint(grey * 0.75 * (1 - alpha) + colour * alpha).clip(0, 255).astype(np.uint8)
    return mixed


def spread_map(cells: NDArray[np.float32], height: int, width: int, shift_cells: float = 0.0) -> NDArray[np.float32]:
    """A map (h, w) smoothly enlarged to (height, width), its grid displaced by `shift_cells` cells to the lower right; edges are held."""
    large = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    if not shift_cells:
        return np.asarray(large)
    move = np.array([[1, 0, shift_cells * width / cells.shape[1]], [0, 1, shift_cells * height / cells.shape[0]]])
    return np.asarray(cv2.warpAffine(large, move, (width, height), borderMode=cv2.BORDER_REPLICATE))


def side_by_side(pictures: list[NDArray[np.uint8]], gap_px: int = GAP_PX) -> NDArray[np.uint8]:
    """Pictures (H, W, 3) in one (H, n*W + (n-1)*gap, 4), with see-through gaps. They are all of one size."""
    opaque = [np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]) for picture in pictures]
    gap = np.zeros((len(pictures[0]), gap_px, 4), np.uint8)
    return np.hstack([part for picture in opaque for part in (gap, picture)][1:])


def png_data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) RGB or (H, W, 4) RGBA as a data URI."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    _, content = cv2.imencode(".png", cv2.cvtColor(picture, order), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return f"data:image/png;base64,{base64.b64encode(content.tobytes()).decode()}"


def _fit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    size = (max(1, round(width * HEIGHT_PX / height)), HEIGHT_PX)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if height > HEIGHT_PX else cv2.INTER_CUBIC), np.uint8)
