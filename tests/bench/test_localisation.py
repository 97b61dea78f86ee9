"""Where attention lies: boxes and grids worked out by hand, and a network that looks where it is told to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidkd.base.errors import DataError
from vidkd.bench.localisation import boxes_at, coverage, held, in_crop, measure_pointing, moving_boxes, pointing_of
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip
from vidkd.data.observation import WindowConfig
from vidkd.data.transforms import Geometry, TransformConfig
from vidkd.models import ClassifierOutput
from vidkd.video import write_video


def test_coverage_by_hand() -> None:
    """The box spans a quarter to three quarters of the width and the upper 30 % of the height."""
    found = coverage(np.array([0.25, 0.0, 0.75, 0.3]), 2, 4)
    np.testing.assert_allclose(found, [[0, 0.6, 0.6, 0], [0, 0, 0, 0]])


def attention_on(*cells: tuple[int, int], grid: int = 4) -> np.ndarray:
    """Maps with all mass on one (row, column) each."""
    maps = np.zeros((len(cells), grid, grid))
    for number, (row, column) in enumerate(cells):
        maps[number, row, column] = 1
    return maps


LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def test_pointing_on_hand_made_maps() -> None:
    """One of two maps has its maximum in the box; the other looks elsewhere."""
    assert pointing_of(attention_on((1, 0), (1, 3)), np.array([LEFT, LEFT])) == (0.5, 0.5, 0.5)
    assert pointing_of(attention_on((1, 0), (1, 3)), np.array([LEFT, RIGHT])) == (1.0, 1.0, 0.5)


def test_a_map_frame_is_judged_on_the_mean_box_of_the_frames_it_stands_for() -> None:
    """Two maps for four frames: the first stands for frames 0 and 1, whose mean box ends at a half."""
    boxes = np.array([(0, 0, 0.4, 1), (0, 0, 0.6, 1), (0.5, 0, 1, 1), (0.5, 0, 1, 1)])
    assert pointing_of(attention_on((0, 1), (0, 1)), boxes) == (0.5, 0.5, 0.5)


def test_boxes_nearest_in_time() -> None:
    rows = ((0.0, 0, 0, 1, 1), (0.5, 2, 2, 3, 3), (2.0, 4, 4, 5, 5))
    found = boxes_at(rows, np.array([-1.0, 0.2, 0.3, 1.2, 1.3, 9.0]))
    assert found[:, 0].tolist() == [0, 0, 2, 2, 4, 4]
    assert found.shape == (6, 4)


def test_boxes_in_a_crop() -> None:
    """A crop of 50 pixels at (10 down, 20 right): shares of its side, cut off at its edges."""
    geometry = Geometry(top=10, left=20, side=50, size=32)
    boxes = np.array([(20.0, 10.0, 70.0, 60.0), (30, 20, 45, 35), (0, 0, 25, 15), (80, 0, 90, 9)])
    np.testing.assert_allclose(in_crop(boxes, geometry), [(0, 0, 1, 1), (0.2, 0.2, 0.5, 0.5), (0, 0, 0.1, 0.1), (1, 0, 1, 0)], atol=1e-12)


def square_frames(places: list[int | None], *, width: int = 96, side: int = 12, top: int = 20) -> np.ndarray:
    """A bright square over a still pattern, its left edge at each of `places`; None: it is away."""
    pattern = np.random.default_rng(0).integers(40, 120, (48, width, 1)).repeat(3, 2).astype(np.uint8)
    frames = np.repeat(pattern[None], len(places), 0)
    for frame, left in zip(frames, places, strict=True):
        if left is not None:
            frame[top : top + side, left : left + side] = 230
    return frames


def test_the_box_of_a_moving_square() -> None:
    places = [4 * t for t in range(20)]
    expected = [(left, 20, left + 12, 32) for left in places]
    np.testing.assert_array_equal(moving_boxes(square_frames(places)), expected)


def test_a_box_holds_all_large_regions() -> None:
    """A second square half as large in area counts (two arms, two people), a sixteenth of it does not."""
    frames = square_frames([4 * t for t in range(20)])
    frames[5, 2:11, 70:78] = 230
    frames[6, 2:5, 70:73] = 230
    boxes = moving_boxes(frames)
    assert boxes[5].tolist() == [20, 2, 78, 32]
    assert boxes[6].tolist() == [24, 20, 36, 32]


def test_an_actor_who_rests_keeps_the_nearest_box() -> None:
    nan = [np.nan] * 4
    boxes = np.array([nan, nan, [1.0] * 4, nan, nan, nan, [2.0] * 4, nan])
    assert held(boxes)[:, 0].tolist() == [1, 1, 1, 1, 1, 2, 2, 2]


class Looker(nn.Module):
    """Looks at the brightest cell of an 8x8 grid, at the darkest, or everywhere alike; `scale` of the probabilities."""

    view = "rgb"
    map_shift_cells = 0.0

    def __init__(self, where: str, scale: float = 1.0) -> None:
        super().__init__()
        self.where, self.scale = where, scale
        self.seen: list[Tensor] = []

    def forward(self, clip: Tensor, observed: Tensor | None = None) -> ClassifierOutput:
        self.seen.append(clip)
        cells = nn.functional.adaptive_avg_pool3d(clip.float(), (clip.shape[2], 8, 8)).mean(1).flatten(2)
        if self.where == "everywhere":
            chance = torch.full_like(cells, 1 / 64)
        else:
            best = cells.argmax(-1) if self.where == "brightest" else cells.argmin(-1)
            chance = nn.functional.one_hot(best, 64).float()
        logs = (chance * self.scale).log().unflatten(-1, (8, 8))
        return ClassifierOutput(torch.zeros(1, 3), {"motion": logs}, {}, torch.zeros(1, 1))


Sets = Callable[..., ClipDataset]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    """A clip of 160x64 in which a square of 24 pixels crosses the frame, a pixel-exact file; by default without boxes in the manifest."""

    def make(places: list[int | None] | None = None, **clip: object) -> ClipDataset:
        places = [4 * t for t in range(34)] if places is None else places
        frames = square_frames(places, width=160, side=24)
        padded = np.concatenate([frames, np.full((len(frames), 16, 160, 3), 80, np.uint8)], axis=1)
        write_video(tmp_path / "clip.mp4", padded, fps=10, lossless=True)
        config = DataConfig(window=WindowConfig(frames=4, stride=1), transform=TransformConfig(short_side=64, crop=64))
        clips = [Clip(path="clip.mp4", label=0, group="a", subsets={}, **clip)]
        return ClipDataset(tmp_path, clips, config, views=("rgb",), training=False)

    return make


def judge(model: Looker, dataset: ClipDataset) -> tuple[float, float, float]:
    found = measure_pointing(model, dataset, torch.device("cpu"))  # type: ignore[arg-type]
    return found.pointing[0], found.mass[0], found.chance[0]


def test_attention_on_the_actor_has_mass_one_and_elsewhere_none(sets: Sets) -> None:
    """The middle window shows the square inside the crop, which is the middle 64 of 160 pixels; it has 24x24 of 64x64 pixels there."""
    share = 24 * 24 / (64 * 64)
    looker = Looker("brightest")
    assert judge(looker, sets()) == pytest.approx((1, 1, share))
    assert looker.seen[0].shape == (1, 3, 4, 64, 64)
    assert judge(Looker("darkest"), sets()) == pytest.approx((0, 0, share))
    assert judge(Looker("everywhere"), sets())[1:] == pytest.approx((share, share))


def test_boxes_of_the_manifest_come_first(sets: Sets) -> None:
    """Boxes in pixels of the file; here the left half of the crop, where the square is not in the middle of the clip."""
    left = tuple((t / 10, 48.0, 0.0, 64.0, 64.0) for t in range(34))
    _, mass, chance = judge(Looker("everywhere"), sets(boxes=left))
    assert (mass, chance) == (pytest.approx(0.25), pytest.approx(0.25))


def test_the_background_is_that_of_the_clips_own_interval(sets: Sets) -> None:
    """Before the clip begins the square lies where the clip will find it; over the whole file it would be background."""
    places: list[int | None] = [*[68] * 60, *[4 * t for t in range(34)]]
    assert judge(Looker("brightest"), sets(places, start_s=6.0)) == pytest.approx((1, 1, 24 * 24 / (64 * 64)))


def test_a_clip_in_which_nothing_moves(sets: Sets) -> None:
    with pytest.raises(DataError, match=r"no actor to point at in clip.mp4"):
        judge(Looker("everywhere"), sets([None] * 30))


def test_a_displaced_grid_is_judged_where_its_cells_are_centred() -> None:
    """Cell (1, 1) of 4x4 covers 1/8 to 3/8 when the grid lies half a cell to the upper left."""
    box = np.array([[0.125, 0.125, 0.375, 0.375]])
    assert coverage(box[0], 4, 4, shift=-0.5)[1].tolist() == [0.0, 1.0, 0.0, 0.0]
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 1] = 1
    assert pointing_of(maps, box, shift=-0.5) == (1.0, 1.0, 0.0625)
    assert pointing_of(maps, box)[1] == 0.25
