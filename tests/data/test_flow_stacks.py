"""Stacks of flow fields for each frame: the right pairs, near the end of a clip too, from files, from the cache and from stored flow."""

import functools
from pathlib import Path

import numpy as np
import pytest
from flow_samples import FRAMES, STEP
from moving_textures import clip, read_window, write_panning

from vidkd.base.errors import DataError
from vidkd.data.cache import ClipCache
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.footage import FootageConfig, read_seen
from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig, Request, WindowConfig
from vidkd.data.transforms import TransformConfig, crop_flow, evaluation_geometry
from vidkd.inference.predict import crop_view
from vidkd.video import open_video

STACK = 3
WINDOW = WindowConfig(frames=4, stride=4, flow_step=STEP)


def config(**more: object) -> FootageConfig:
    settings = {
        "window": WINDOW,
        "transform": TransformConfig(short_side=32, crop=24),
        "flow": FlowConfig(stack=STACK),
        "decode_short_side": None,
    }
    return FootageConfig(**{**settings, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_panning(tmp_path_factory.mktemp("videos") / "a.mp4", frames=24, dx=2)


def fields(path: Path, starts: list[int]) -> np.ndarray:
    """Field by field: of the pairs from each start on, at working size."""
    with open_video(path) as reader:
        frames = reader.frames_at_indices(range(len(reader)))
    found = []
    for start in starts:
        for number in range(STACK):
            first, second = start + number * STEP, start + (number + 1) * STEP
            found.append(resize_flow(dis_flow(frames[first : first + 1], frames[second : second + 1]), 32, 43)[0])
    return np.stack(found).astype(np.float16)


# the clip's last pair is 21 -> 23, so a stack of three pairs starts at 17 at the latest
@pytest.mark.parametrize(("position", "starts"), [(0.0, [0, 4, 8, 12]), (1.0, [9, 13, 17, 17])])
def test_a_stack_follows_each_frame_and_ends_with_the_clip(video: Path, tmp_path: Path, position: float, starts: list[int]) -> None:
    found = read_window(video, clip("a.mp4"), config(), position=position, want_flow=True)
    assert found.flow is not None
    np.testing.assert_array_equal(found.flow, fields(video, starts))
    alone = read_window(video, clip("a.mp4"), config(flow=FlowConfig()), position=position, want_flow=True)
    np.testing.assert_array_equal(found.frames, alone.frames)
    cache = ClipCache(CacheConfig(folder=str(tmp_path)), config())
    kept, _ = cache.seen(video, clip("a.mp4"), Request(position=position, flow=True))
    np.testing.assert_array_equal(kept.flow, found.flow)
    assert cache.key(video, clip("a.mp4")) == ClipCache(CacheConfig(), config(flow=FlowConfig())).key(video, clip("a.mp4"))


def test_stored_fields_are_stacked_too(panning_root: Path, stored_flow: Path) -> None:
    of = clip("left.mp4")
    settings = config(window=WindowConfig(frames=3, stride=2), flow=FlowConfig(source="stored", folder=str(stored_flow), stack=STACK))
    found = read_window(panning_root / "left.mp4", of, settings, position=1.0, want_flow=True)
    computed = read_window(panning_root / "left.mp4", of, config(window=WindowConfig(frames=3, stride=2)), position=1.0, want_flow=True)
    assert found.flow is not None
    assert computed.flow is not None
    assert found.flow.shape[0] == 3 * STACK
    last = FRAMES - 1 - STACK * STEP  # all three frames lie behind it
    np.testing.assert_array_equal(computed.flow, fields(panning_root / "left.mp4", [last, last, last]))
    assert np.abs(found.flow - computed.flow).mean() < 0.05


def test_no_pair_lies_outside_what_the_student_may_see(video: Path) -> None:
    early = config(observe=ObserveConfig(protocol="early"), window=WindowConfig(frames=2, stride=2, flow_step=STEP))
    seen, _ = read_seen(video, clip("a.mp4"), early, Request(position=1.0, fraction=0.5, flow=True))
    np.testing.assert_array_equal(seen.flow, fields(video, [5, 5]))  # 12 frames are seen: 5 -> 7 -> 9 -> 11


def test_held_frames_have_no_flow(video: Path) -> None:
    held = config(window=WindowConfig(frames=8, stride=4, flow_step=STEP, short_clip="hold"))
    found = read_window(video, clip("a.mp4"), held, position=0.0, want_flow=True)
    assert found.flow is not None
    still = np.abs(found.flow).max(axis=(1, 2, 3)).reshape(8, STACK) == 0
    assert still.all(axis=1).tolist() == [False] * 6 + [True] * 2
    assert still.any(axis=1).tolist() == [False] * 6 + [True] * 2


@pytest.mark.parametrize("cached", [False, True])
def test_a_clip_shorter_than_a_stack(video: Path, tmp_path: Path, cached: bool) -> None:
    rule = WindowConfig(frames=2, stride=1, flow_step=STEP, short_clip="hold")
    short = clip("a.mp4", start_s=0.0, end_s=6 / 25)
    settings = config(window=rule)
    cache = ClipCache(CacheConfig(folder=str(tmp_path)), settings)
    read = cache.seen if cached else functools.partial(read_seen, config=settings)
    with pytest.raises(
        DataError, match=r"a\.mp4 is shorter than a stack of flow(.|\n)*frames +: 6\n.*7 .*data\.flow\.stack=3(.|\n)*smaller"
    ):
        read(video, short, request=Request(position=0.0, flow=True))
    assert read_window(video, short, settings, position=0.0, want_flow=False).flow is None
    enough = clip("a.mp4", start_s=0.0, end_s=7 / 25)
    assert read_window(video, enough, settings, position=0.0, want_flow=True).flow is not None


@pytest.mark.parametrize("flipped", [False, True])
def test_each_field_is_two_channels_and_mirrored_as_one_alone(video: Path, flipped: bool) -> None:
    data = DataConfig(
        window=WINDOW, transform=TransformConfig(short_side=32, crop=24), flow=FlowConfig(stack=STACK), decode_short_side=None
    )
    clips = [Clip(path="a.mp4", label=0, group="g", subsets={"1": "train"})]
    dataset = ClipDataset(video.parent, clips, data, views=("rgb", "flow"), training=flipped, may_flip=flipped)
    for epoch in range(20 if flipped else 1):
        sample = dataset[epoch, 0]
        moved = sample["flow"].float().numpy()
        assert moved.shape == (2 * STACK, 4, 24, 24)
        assert sample["rgb"].shape == (3, 4, 24, 24)
        dx, dy = np.median(moved, axis=(1, 2, 3)).reshape(STACK, 2).T
        mirrored = dx[0] < 0
        assert (np.sign(dx) == (-1 if mirrored else 1)).all()
        np.testing.assert_allclose(dx, dx[0], rtol=0.1)
        np.testing.assert_allclose(dy, 0, atol=0.2)
        if mirrored:
            break
    assert mirrored == flipped


def test_predict_and_data_sets_order_channels_alike(video: Path) -> None:
    found = read_window(video, clip("a.mp4"), config(), position=0.0, want_flow=True)
    assert found.flow is not None
    geometry = evaluation_geometry(32, 43, config().transform)
    view = crop_view("flow", found, geometry)
    for number in range(STACK):
        alone = crop_flow(found.flow[number::STACK], geometry)
        np.testing.assert_array_equal(view[2 * number : 2 * number + 2], alone.transpose(3, 0, 1, 2))
    data = DataConfig(
        window=WINDOW, transform=TransformConfig(short_side=32, crop=24), flow=FlowConfig(stack=STACK), decode_short_side=None, eval_clips=1
    )
    middle = read_window(video, clip("a.mp4"), config(), position=0.5, want_flow=True)
    sample = ClipDataset(video.parent, [clip("a.mp4")], data, views=("flow",), training=False)[0, 0]["flow"]
    np.testing.assert_array_equal(sample.numpy(), crop_view("flow", middle, geometry).astype(np.float16))
