"""RAFT: what reaches the network and what comes out, and that it never has random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flow_samples import STEP, extract, window
from moving_textures import moved, translation

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.data import raft
from vidkd.data.flow_extract import ExtractConfig
from vidkd.data.flow_store import read_side_file, read_stored_flow
from vidkd.data.footage import shrink
from vidkd.data.raft import load_raft, raft_flow
from vidkd.video import open_video


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
