"""From a file to frames and flow: the right frames, sizes, both readers, chunks."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from moving_textures import clip, read_window, texture, write_panning

from vidkd.base.errors import DataError, VideoError
from vidkd.data import cache
from vidkd.data.cache import read_whole
from vidkd.data.flow import FlowConfig, dis_flow, resize_flow
from vidkd.data.footage import FootageConfig
from vidkd.data.observation import WindowConfig
from vidkd.data.transforms import TransformConfig, resize_frames
from vidkd.video import open_video, write_video


def config(**more: object) -> FootageConfig:
    settings = {
        "window": WindowConfig(frames=4, stride=2),
        "transform": TransformConfig(short_side=32, crop=24),
        "flow": FlowConfig(),
        "decode_short_side": None,
    }
    return FootageConfig(**{**settings, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_panning(tmp_path_factory.mktemp("videos") / "a.mp4", frames=24, dx=2)


def test_a_window_is_those_frames_and_the_flow_between_them(video: Path) -> None:
    found = read_window(video, clip("a.mp4"), config(), position=0.0, want_flow=True)
    with open_video(video) as reader:
        decoded = reader.frames_at_indices(range(24))
    np.testing.assert_array_equal(found.frames, resize_frames(decoded[[0, 2, 4, 6]], 32, 43))
    flow = resize_flow(dis_flow(decoded[[0, 2, 4, 6]], decoded[[2, 4, 6, 8]]), 32, 43)
    assert found.flow is not None
    np.testing.assert_array_equal(found.flow, flow.astype(np.float16))
    # 2 pixels a frame, 2 frames a step, at 43/64 of the width
    assert np.median(found.flow[:, 8:-8, 8:-8, 0]) == pytest.approx(4 * 43 / 64, abs=0.1)
    assert np.median(found.flow[:, 8:-8, 8:-8, 1]) == pytest.approx(0, abs=0.05)


def test_the_clip_s_interval_is_in_seconds_of_the_file(video: Path) -> None:
    part = clip("a.mp4", start_s=0.4, end_s=0.8)
    found = read_window(video, part, config(), position=1.0, want_flow=False)
    with open_video(video) as reader:
        expected = reader.frames_at_indices([11, 13, 15, 17])  # the last flow points at frame 19, and 0.8 s is frame 20
    np.testing.assert_array_equal(found.frames, resize_frames(expected, 32, 43))


@pytest.mark.parametrize("decoder", ["auto", "decord", "pyav"])
def test_a_clip_is_read_by_the_decoder_that_was_chosen(video: Path, decoder: str) -> None:
    settings = config(decoder=decoder)
    with open_video(video, backend=decoder) as reader:  # type: ignore[arg-type]
        decoded = resize_frames(reader.frames_at_indices(range(24)), 32, 43)
    window = read_window(video, clip("a.mp4"), settings, position=0.0, want_flow=False)
    np.testing.assert_array_equal(window.frames, decoded[[0, 2, 4, 6]])
    np.testing.assert_array_equal(read_whole(video, clip("a.mp4"), settings).frames, decoded)


def test_a_held_frame_has_no_flow(video: Path) -> None:
    rule = WindowConfig(frames=8, stride=4, short_clip="hold")
    found = read_window(video, clip("a.mp4"), config(window=rule), position=0.0, want_flow=True)
    assert found.flow is not None
    assert np.abs(found.flow[6:]).max() == 0
    assert (np.abs(found.flow[:6]).max(axis=(1, 2, 3)) > 1).all()
    np.testing.assert_array_equal(found.frames[6], found.frames[7])


def test_errors_name_the_file(video: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mp4 is shorter"):
        read_window(video, clip("a.mp4"), config(window=WindowConfig(frames=30)), position=0.0, want_flow=False)
    (tmp_path / "torn.mp4").write_bytes(video.read_bytes()[:700])
    for name, message in (("torn.mp4", r"torn\.mp4"), ("none.mp4", r"none\.mp4")):
        for read in (read_whole, lambda *a: read_window(*a, position=0.0, want_flow=False)):
            with pytest.raises(VideoError, match=message):
                read(tmp_path / name, clip(name), config())
    with pytest.raises(DataError, match=r"no frame in the interval of .*a\.mp4"):
        read_whole(video, clip("a.mp4", start_s=7.0), config())


# --- whole clips ---


@pytest.mark.parametrize("step", [1, 2, 9, 30])
@pytest.mark.parametrize("chunk", [1, 5, 24, 64])
def test_a_whole_clip_does_not_depend_on_the_chunks(video: Path, chunk: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK_FRAMES", chunk)
    whole = read_whole(video, clip("a.mp4"), config(window=WindowConfig(frames=2, stride=1, flow_step=step)))
    with open_video(video) as reader:
        decoded = reader.frames_at_indices(range(24))
    np.testing.assert_array_equal(whole.frames, resize_frames(decoded, 32, 43))
    targets = np.minimum(np.arange(24) + step, 23)
    assert whole.flow is not None
    np.testing.assert_array_equal(whole.flow, resize_flow(dis_flow(decoded, decoded[targets]), 32, 43).astype(np.float16))
    np.testing.assert_allclose(whole.timestamps_s, np.arange(24) / 25)


def test_a_long_clip_is_never_held_at_its_own_size(tmp_path: Path) -> None:
    still = texture(240, 320)
    write_video(tmp_path / "long.mp4", (still for _ in range(300)), fps=25)
    settings = config(transform=TransformConfig(short_side=24, crop=24), decode_short_side=64)
    tracemalloc.start()
    whole = read_whole(tmp_path / "long.mp4", clip("long.mp4"), settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(whole.frames) == 300
    # 300 frames of the file are 69 MB; a chunk of 64 (decoded, stacked, shrunk, its flow) stays under half of that
    assert peak < 45e6
