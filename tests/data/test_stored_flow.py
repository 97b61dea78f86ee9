"""Flow computed offline (TV-L1, RAFT) and stored as video: how exact it is, what is kept, and that training on it is the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flow_samples import DIS, FRAMES, STEP, extract, window
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_textures import about, clip, epe, moved, panning, translation, write_panning

from vidkd.base.errors import CheckpointError, ConfigError, DataError
from vidkd.data import flow_extract, raft
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.flow import FlowConfig, dis_flow, tvl1_flow
from vidkd.data.flow_extract import ExtractConfig, flow_function, flow_of_frames
from vidkd.data.flow_store import decode_flow, encode_flow, read_side_file, read_stored_flow, write_stored_flow
from vidkd.data.footage import footage_of
from vidkd.data.observation import Window, WindowConfig
from vidkd.data.raft import load_raft, raft_flow
from vidkd.data.transforms import TransformConfig, shrink
from vidkd.video import open_video, write_video

# --- TV-L1: known motion, and what is stored of it ---


@pytest.mark.parametrize("matrix", [translation(2, -1), translation(-1.5, 0.75), about(64, 80, angle_deg=2, zoom=1.02)])
def test_tvl1_on_known_motion(matrix: np.ndarray) -> None:
    first, second, truth = moved(64, 80, matrix)
    assert epe(tvl1_flow(first[None], second[None])[0], truth) < 0.15


def test_tvl1_is_stored_with_its_parameters(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", iter(panning(3, height=24, width=32)), fps=25, crf=10)
    config = ExtractConfig(method="tvl1", flow_step=1, short_side=24)
    extract(tmp_path, tmp_path / "flow", config, "a.mp4")
    found = read_stored_flow(tmp_path / "flow", "a.mp4", window(0, 1, step=1, last=2))
    assert np.median(found[..., 0]) == pytest.approx(1, abs=0.1)
    side = read_side_file(tmp_path / "flow", "a.mp4")
    assert (side.method, side.settings["Lambda"], side.settings["WarpingsNumber"]) == ("tvl1", 0.15, 5)


# --- RAFT: what reaches the network and what comes out, and that it never has random weights ---


class Stub(torch.nn.Module):
    """In place of RAFT: "flow" that shows what reached the network."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.0))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        self.shapes.append(tuple(first.shape))
        best = self.scale * torch.stack([first[:, 0], second[:, 1]], 1)
        return [best * 0 - 9, best]


def save_stub(path: Path, scale: float) -> Path:
    torch.save({"scale": torch.tensor(scale)}, path)
    return path


@pytest.mark.parametrize(("size", "padded"), [((20, 30), (128, 128)), ((128, 136), (128, 136)), ((129, 161), (136, 168))])
def test_raft_gets_padded_frames_in_its_range_and_gives_its_last_flow(size: tuple[int, int], padded: tuple[int, int]) -> None:
    stub = Stub()
    stub.scale.data.fill_(10.0)
    first = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    second = np.full((2, *size, 3), 255, np.uint8)
    flow = raft_flow(stub, first, second)
    assert stub.shapes == [(2, 3, *padded)]
    assert (flow.shape, flow.dtype) == ((2, *size, 2), np.float32)
    np.testing.assert_allclose(flow[..., 0], 10 * (first[..., 0] / 127.5 - 1), atol=1e-5)
    np.testing.assert_allclose(flow[..., 1], 10.0, atol=1e-5)


def test_raft_without_its_weights_is_an_error_and_never_a_random_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="needs trained weights"):
        load_raft("raft_small", None)
    with pytest.raises(CheckpointError, match=r"weights not found: .*none\.pt"):
        load_raft("raft_small", str(tmp_path / "none.pt"))
    with pytest.raises(CheckpointError, match="weights do not fit raft_small"):
        load_raft("raft_small", str(save_stub(tmp_path / "stub.pt", 1.0)))
    with pytest.raises(ConfigError, match="unknown RAFT model 'raft_smal'"):
        load_raft("raft_smal", "torchvision")
    with pytest.raises(CheckpointError, match="weights not found"):  # found before any video is opened
        ExtractConfig(method="raft", weights=str(tmp_path / "none.pt")).settings()


def test_raft_flow_is_stored_with_the_weights_it_came_from(panning_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "build_raft", lambda name: Stub())
    weights = save_stub(tmp_path / "stub.pt", 3.5)
    config = ExtractConfig(method="raft", weights=str(weights), flow_step=STEP, short_side=32)
    extract(panning_root, tmp_path / "flow", config, "left.mp4")
    with open_video(panning_root / "left.mp4") as video:
        frames = shrink(video.frames_at_indices([0, 1, 2, 3]), 32)
    found = read_stored_flow(tmp_path / "flow", "left.mp4", window(0, 1))
    np.testing.assert_allclose(found[..., 0], 3.5 * (frames[:2, ..., 0] / 127.5 - 1), atol=64.0 / 4094 * 1.01)
    np.testing.assert_allclose(found[..., 1], 3.5 * (frames[2:, ..., 1] / 127.5 - 1), atol=64.0 / 4094 * 1.01)
    side = read_side_file(tmp_path / "flow", "left.mp4")
    assert set(side.versions) == {"vidkd", "cv2", "torch", "torchvision"}
    assert len(side.settings["weights"]) == 64
    save_stub(weights, 1.0)
    assert ExtractConfig(method="raft", weights=str(weights)).settings()["weights"] != side.settings["weights"]


def test_torchvision_s_raft_fits_the_wrapper(tmp_path: Path) -> None:
    """The real network with weights from a file; flow of two frames, the network's own answer on frames that need no padding."""
    torch.manual_seed(0)
    net = raft.build_raft("raft_small").eval()
    torch.save(net.state_dict(), tmp_path / "raft.pt")
    first, second, _ = moved(128, 128, translation(2, 1))
    flow = raft_flow(load_raft("raft_small", str(tmp_path / "raft.pt")), first[None], second[None])
    with torch.inference_mode():
        direct = net(
            *(torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 127.5 - 1 for frame in (first, second))
        )
    np.testing.assert_allclose(flow[0], direct[-1][0].permute(1, 2, 0).numpy(), rtol=1e-4, atol=1e-3)


# --- Extraction of flow: which pairs are computed, what is kept, what is done again ---


@pytest.mark.parametrize("step", [1, 3, 9, 40])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_flow_goes_to_the_frame_a_step_later_or_the_last(count: int, step: int) -> None:
    frames = [np.full((2, 2, 3), number, np.uint8) for number in range(count)]

    def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        assert len(first) <= flow_extract.BATCH_PAIRS
        return (second[..., :2].astype(np.float32) - first[..., :2]).astype(np.float32)

    flows = list(flow_of_frames(iter(frames), difference, step))
    assert [float(flow[0, 0, 0]) for flow in flows] == [min(step, count - 1 - number) for number in range(count)]


def test_methods_are_functions_of_two_stacks() -> None:
    first, second, truth = moved(64, 80, translation(2, -1))
    assert epe(flow_function(ExtractConfig(method="dis", preset="medium"))(first[None], second[None])[0], truth) < 0.1
    assert epe(flow_function(ExtractConfig(method="tvl1"))(first[None], second[None])[0], truth) < 0.1


def test_flow_that_lies_there_is_kept_and_what_changed_is_done_again(panning_root: Path, tmp_path: Path) -> None:
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [False, False]
    before = (tmp_path / "left.mp4.flow.mp4").stat().st_mtime_ns
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [True, True]
    assert (tmp_path / "left.mp4.flow.mp4").stat().st_mtime_ns == before
    (tmp_path / "left.mp4.flow.json").unlink()
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [True, False]
    (tmp_path / "in" / "right.mp4.flow.mp4").unlink()
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [False, True]


def test_another_video_under_the_name_is_extracted_again(tmp_path: Path) -> None:
    write_panning(tmp_path / "a.mp4", frames=6, dx=1)
    extract(tmp_path, tmp_path / "flow", DIS, "a.mp4")
    write_panning(tmp_path / "a.mp4", frames=6, dx=2)
    assert extract(tmp_path, tmp_path / "flow", DIS, "a.mp4")[0]["kept"] is False
    assert np.median(read_stored_flow(tmp_path / "flow", "a.mp4", window(1, last=5))[0, 8:-8, 8:-8, 0]) == pytest.approx(8 / 3, abs=0.1)


def test_cut_components_are_told(panning_root: Path, tmp_path: Path) -> None:
    narrow = ExtractConfig(method="dis", flow_step=STEP, short_side=32, bound=1.0)
    (answer,) = extract(panning_root, tmp_path, narrow, "in/right.mp4")
    assert 0.2 < answer["clipped"] < 0.6  # dx is 2.7 pixels nearly everywhere, dy none
    assert read_side_file(tmp_path, "in/right.mp4").clipped == answer["clipped"]


@pytest.mark.parametrize("wrong", [{"flow_step": 0}, {"short_side": 8}, {"bound": 0.0}, {"bound": float("inf")}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="flow"):
        ExtractConfig(**wrong)


# --- Flow stored as video: how exact it is, and what is refused ---

# --- pictures of flow ---


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 20.0, 64.0, 300.0]))
def test_the_error_of_a_component_is_at_most_half_a_step(seed: int, bound: float) -> None:
    flow = np.random.default_rng(seed).uniform(-bound, bound, (9, 7, 2)).astype(np.float32)
    picture, clipped = encode_flow(flow, bound)
    assert picture.dtype == np.uint8
    assert clipped == 0
    error = np.abs(decode_flow(picture[None], bound)[0] - flow).max()
    assert error <= bound / 4094 * 1.001
    assert error > bound / 4094 * 0.8  # the bound that is stated is the one there is


def test_what_lies_beyond_the_bound_is_cut_and_counted() -> None:
    flow = np.array([[[70.0, -3.0], [-1000.0, 64.0]]], np.float32)
    picture, clipped = encode_flow(flow, 64.0)
    assert clipped == 2
    np.testing.assert_allclose(decode_flow(picture[None], 64.0)[0], [[[64, -3], [-64, 64]]], atol=64.0 / 4094)


# --- stored and read ---


def test_stored_flow_is_the_flow_to_half_a_step(panning_root: Path, stored_flow: Path) -> None:
    with open_video(panning_root / "in" / "right.mp4") as video:
        frames = shrink(video.frames_at_indices(range(FRAMES)), 32)
    expected = dis_flow(frames, frames[np.minimum(np.arange(FRAMES) + STEP, FRAMES - 1)])
    found = read_stored_flow(stored_flow, "in/right.mp4", window(*range(FRAMES)), frame_count=FRAMES)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 64.0 / 4094 * 1.001
    # and it is the motion: 2 pixels a frame, 2 frames a step, at 32/48 of the size
    assert np.median(found[:-STEP, 8:-8, 8:-8, 0]) == pytest.approx(4 * 32 / 48, abs=0.1)
    assert not found[-1].any()


def test_a_frame_with_itself_has_no_flow(stored_flow: Path) -> None:
    held = Window(np.array([4, 5, 5]), np.array([6, 5, 5]))
    found = read_stored_flow(stored_flow, "left.mp4", held)
    assert found[0].any()
    assert not found[1:].any()


@pytest.mark.parametrize("clip_window", [window(2, 4, step=3), window(2, 4, step=1)])
def test_another_flow_step_is_an_error(stored_flow: Path, clip_window: Window) -> None:
    with pytest.raises(DataError, match="another step") as caught:
        read_stored_flow(stored_flow, "left.mp4", clip_window)
    assert caught.value.lines["flow step"] == f"2 stored, {int(clip_window.targets[0] - 2)} wanted"


def test_a_pair_cut_short_by_the_interval_is_an_error_and_no_look_ahead(stored_flow: Path) -> None:
    with pytest.raises(DataError, match="beyond the clip's end") as caught:
        read_stored_flow(stored_flow, "left.mp4", window(4, 6, 7, last=8))
    assert caught.value.lines["frames"] == "7"


def test_no_stored_flow_is_an_error_that_says_what_to_do(stored_flow: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no stored flow of none\.mp4") as caught:
        read_stored_flow(stored_flow, "none.mp4", window(0))
    assert "prepare_data flow" in caught.value.lines["fix"]
    assert caught.value.lines["missing"] == str(stored_flow / "none.mp4.flow.json")


def test_the_flow_of_another_video_is_an_error(stored_flow: Path) -> None:
    with pytest.raises(DataError, match="not of this video"):
        read_stored_flow(stored_flow, "left.mp4", window(0), frame_count=FRAMES + 1)


def test_missing_frames_are_an_error(panning_root: Path, tmp_path: Path) -> None:
    extract(panning_root, tmp_path, DIS, "left.mp4")
    with pytest.raises(DataError, match="frames are missing"):
        read_stored_flow(tmp_path, "left.mp4", Window(np.array([13]), np.array([15])))
    record = {"method": "dis", "settings": {}, "flow_step": STEP, "source_sha256": "", "versions": {}}
    side = (tmp_path / "left.mp4.flow.json").read_text()
    write_stored_flow(tmp_path, "left.mp4", [np.zeros((32, 43, 2), np.float32)] * 9, bound=64.0, fps=25, record=record)
    (tmp_path / "left.mp4.flow.json").write_text(side)
    with pytest.raises(DataError, match="frames are missing") as caught:
        read_stored_flow(tmp_path, "left.mp4", window(3))
    assert caught.value.lines["found"] == "9 frames of 43x32"
    (tmp_path / "left.mp4.flow.mp4").unlink()
    with pytest.raises(DataError, match="no stored flow"):
        read_stored_flow(tmp_path, "left.mp4", window(3))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"schema_version": 2}, "schema_version must be"), ({"bound": None}, "missing: bound"), ({"colour": 1}, "unknown key")],
)
def test_a_foreign_side_file_is_an_error(stored_flow: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = {**json.loads((stored_flow / "left.mp4.flow.json").read_text()), **change}
    (tmp_path / "left.mp4.flow.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    (tmp_path / "left.mp4.flow.mp4").write_bytes((stored_flow / "left.mp4.flow.mp4").read_bytes())
    with pytest.raises(DataError, match=said):
        read_side_file(tmp_path, "left.mp4")


def test_flow_that_breaks_off_leaves_nothing_that_is_read(panning_root: Path, tmp_path: Path) -> None:
    extract(panning_root, tmp_path, DIS, "left.mp4")
    record = {"method": "dis", "settings": {}, "flow_step": STEP, "source_sha256": "", "versions": {}}

    def breaking() -> Any:
        yield np.zeros((32, 43, 2), np.float32)
        raise DataError("the video ends early")

    with pytest.raises(DataError, match="ends early"):
        write_stored_flow(tmp_path, "left.mp4", breaking(), bound=64.0, fps=25, record=record)
    with pytest.raises(DataError, match="no stored flow"):
        read_side_file(tmp_path, "left.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["left.mp4.flow.mp4"]  # the old one, no longer vouched for


# --- Training on stored flow is training on the same flow ---


def dataset(root: Path, source: FlowConfig, cache: Path | None = None, **more: Any) -> ClipDataset:
    config = DataConfig(
        window=WindowConfig(**{"frames": 3, "stride": 2, **more}),
        transform=TransformConfig(short_side=24, crop=20),
        decode_short_side=32,
        flow=source,
        cache=CacheConfig(enabled=cache is not None, folder=str(cache)),
    )
    clips = [clip("in/right.mp4"), clip("left.mp4", 1), clip("left.mp4", 1, start_s=0.12, end_s=0.5)]
    return ClipDataset(root, clips, config, views=("rgb", "flow"), training=True)


@pytest.mark.parametrize("short_clip", ["error", "hold"])
@pytest.mark.parametrize("cached", [False, True])
def test_the_same_samples_on_the_fly_and_stored(
    panning_root: Path, stored_flow: Path, tmp_path: Path, cached: bool, short_clip: str
) -> None:
    direct = dataset(panning_root, FlowConfig(), short_clip=short_clip)
    from_store = dataset(
        panning_root, FlowConfig(source="stored", folder=str(stored_flow)), tmp_path if cached else None, short_clip=short_clip
    )
    for item in [(epoch, index) for epoch in range(3) for index in range(3)]:
        one, other = direct[item], from_store[item]
        assert torch.equal(one["rgb"], other["rgb"])
        # vectors were stored at 32 pixels and are seen at 24 x (20 / crop): the error shrinks or grows with them, half precision adds to it
        bound = 64.0 / 4094 * 24 / 32 * 20 / 18 + 2**-9
        assert float((one["flow"].float() - other["flow"].float()).abs().max()) <= bound
        assert float(one["flow"].float().abs().max()) > 0.5


def test_a_held_window_never_sees_flow_from_beyond_the_interval(panning_root: Path, stored_flow: Path, tmp_path: Path) -> None:
    """The clip [0.12, 0.5) has 10 frames; a window of 13 is held, and its last pairs would point past the interval."""
    for cache in (None, tmp_path):
        sample = dataset(
            panning_root, FlowConfig(source="stored", folder=str(stored_flow)), cache, frames=11, stride=1, flow_step=2, short_clip="hold"
        )[0, 2]
        assert "beyond the clip's end" in sample["bad"]


def test_stored_flow_without_a_data_set_is_an_error(panning_root: Path, stored_flow: Path) -> None:
    data = dataset(panning_root, FlowConfig(source="stored", folder=str(stored_flow)))
    with open_video(panning_root / "left.mp4") as video, pytest.raises(DataError, match="clips of a data set only"):
        footage_of(video, window(0, 2, 4), data.footage, want_flow=True)


@pytest.mark.data
@pytest.mark.parametrize("pattern", ["ucf101_originals/**/*.avi", "clips/*cartwheel*.avi", "clips/*.mkv"])
def test_real_files_too_have_the_same_flow_stored_and_on_the_fly(real_data: Path, tmp_path: Path, pattern: str) -> None:
    """DivX with B-frames, broken metadata, Matroska: reading in order (extraction) and by index (training) must mean the same frames."""
    file = sorted(real_data.glob(pattern))[0]
    extract(file.parent, tmp_path, ExtractConfig(method="dis", flow_step=4, short_side=64, preset="ultrafast"), file.name)
    samples = []
    for source in (FlowConfig(preset="ultrafast"), FlowConfig(source="stored", folder=str(tmp_path))):
        config = DataConfig(
            window=WindowConfig(frames=4, stride=4), transform=TransformConfig(short_side=64, crop=64), decode_short_side=64, flow=source
        )
        data = ClipDataset(file.parent, [clip(file.name)], config, views=("rgb", "flow"), training=False)
        samples.append([data[0, number] for number in range(3)])
    for one, other in zip(*samples, strict=True):
        assert torch.equal(one["rgb"], other["rgb"])
        inside = one["flow"].float().abs() < 60
        assert float((one["flow"].float() - other["flow"].float()).abs()[inside].max()) <= 64.0 / 4094 + 2**-6
