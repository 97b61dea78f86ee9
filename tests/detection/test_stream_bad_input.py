"""Inputs that break off, disks that fill up, cameras that disappear: what was seen stays, and the error says where it ended."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from started import run_to_end
from stream_samples import FPS, CountingStepper, SquareDetector, check_same, content, make_video, pictures, rows, walk

from vidkd.base.errors import VideoError
from vidkd.inference import sources
from vidkd.video import Frame, VideoReader, VideoWriter, open_video


def noisy_video(path: Path, frames: int = 60, size: int = 96) -> Path:
    """Every frame is kilobytes of its own: damage hits few of them."""
    images = np.random.default_rng(1).integers(0, 255, (frames, size, size, 3)).astype(np.uint8)
    with VideoWriter(path, fps=FPS) as writer:
        for image in images:
            writer.write(image)
    return path


def damage(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + 20_000] = bytes(np.random.default_rng(3).integers(0, 256, 20_000, dtype=np.uint8))
    path.write_bytes(data)


def test_a_video_damaged_in_the_middle(tmp_path):
    source = noisy_video(tmp_path / "v.mp4")
    damage(source, 0.6)
    with pytest.raises(VideoError, match="cannot decode video") as caught:
        walk(source, tmp_path / "out")
    frames = [line["frame"] for line in rows(tmp_path / "out")]
    assert frames == list(range(len(frames)))
    assert 20 < len(frames) < 50
    assert caught.value.lines["after frames"] == str(len(frames))
    assert caught.value.lines["until then"] == f"{len(frames)} frames, {len(frames)} boxes; they are kept"
    with open_video(tmp_path / "out" / "annotated.mp4") as drawn:
        assert len(drawn) == len(frames)
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == len(frames)
    with pytest.raises(VideoError) as again:
        walk(source, tmp_path / "out")
    assert str(again.value) == str(caught.value), "the same command says the same again"


def test_damage_after_going_on_is_counted_from_the_beginning(tmp_path):
    source = noisy_video(tmp_path / "v.mp4")
    damage(source, 0.6)
    with pytest.raises(VideoError) as whole:
        walk(source, tmp_path / "whole")
    walk(source, tmp_path / "out", stop=lambda: True)
    with pytest.raises(VideoError) as caught:
        walk(source, tmp_path / "out")
    assert str(caught.value) == str(whole.value)
    check_same(tmp_path / "out", tmp_path / "whole")


def test_no_frame_at_all(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="cannot open video"):
        walk(tmp_path / "v.mp4", tmp_path / "out")
    monkeypatch.setattr(sources, "open_stream", lambda source: Camera(0))
    with pytest.raises(VideoError, match="no frames in: 0"):
        walk("0", tmp_path / "camera")
    assert not (tmp_path / "camera").exists(), "nothing is left of what gave nothing"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 600 kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if run_to_end(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]).returncode:
        pytest.skip("mounting a small file system wants root")
    yield folder
    run_to_end(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_in_mid_stream(small_disk, tmp_path):
    """And when there is room again, the same command goes on and ends as if nothing had been."""
    source = noisy_video(tmp_path / "v.mp4", 60, 208)
    with pytest.raises(VideoError, match="cannot write to") as caught:
        walk(source, small_disk / "out")
    assert caught.value.lines["reason"] == "No space left on device"
    done = int(caught.value.lines["until then"].split()[0])
    assert 0 < done < 60
    assert done % 12 == 0
    assert "it resumes" in caught.value.lines["fix"]
    run_to_end(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    stepper = CountingStepper(SquareDetector())
    walk(source, small_disk / "out", stepper=stepper)
    assert sum(stepper._detector.batches) == 60 - done
    walk(source, tmp_path / "whole")
    check_same(small_disk / "out", tmp_path / "whole")


class Camera:
    """As many frames as asked for; then it ends, or is gone."""

    def __init__(self, frames: int, *, error: VideoError | None = None) -> None:
        self.images, self.error = pictures(frames), error

    def __enter__(self) -> Iterator[Frame]:
        return self.frames()

    def __exit__(self, *_: object) -> None: ...

    def frames(self) -> Iterator[Frame]:
        for index, image in enumerate(self.images):
            yield Frame(index=index, time_s=index / 13, image=image)
        if self.error is not None:
            raise self.error


def test_a_camera_that_disappears(tmp_path, monkeypatch):
    gone = VideoError("cannot decode video: /dev/video0", after_frames=17, reason="No such device")
    monkeypatch.setattr(sources, "open_stream", lambda source: Camera(17, error=gone))
    detector = SquareDetector()
    with pytest.raises(VideoError, match="No such device") as caught:
        walk("0", tmp_path / "out", stepper=CountingStepper(detector))
    assert caught.value.lines["until then"].startswith("17 frames")
    assert set(detector.batches) == {1}, "nobody waits for a batch of a camera"
    assert [line["time_s"] for line in rows(tmp_path / "out")] == [index / 13 for index in range(17)]
    with open_video(tmp_path / "out" / "annotated.mp4") as drawn:
        np.testing.assert_allclose(drawn.timestamps_s, np.arange(17) / 13, atol=1e-4)


@pytest.mark.parametrize("asked_at", [0, 1, 23, 24, 25])
def test_a_camera_stopped_at_the_end_of_a_part_is_finished_too(asked_at, tmp_path, monkeypatch):
    """And what changes along the stream is asked for its state after the last frame that was seen."""
    monkeypatch.setattr(sources, "open_stream", lambda source: Camera(100))
    asked, states = itertools.count(), []

    class Watched(CountingStepper):
        def state(self):
            states.append(self.seen["frames"])
            return super().state()

    call = lambda: walk("0", tmp_path / "out", stepper=Watched(), stop=lambda: next(asked) >= asked_at)  # noqa: E731
    if asked_at == 0:
        with pytest.raises(VideoError, match="no frames in: 0"):
            call()
        return
    assert call()["status"] == "done"
    assert states[-1] == len(rows(tmp_path / "out")) == asked_at


def test_a_camera_whose_recording_was_killed_is_put_together(tmp_path, monkeypatch):
    """It cannot be resumed, but what is on the disk is not lost."""

    class Dies(CountingStepper):
        def end(self, frames, begun):
            if frames[0].index == 30:
                raise MemoryError
            return super().end(frames, begun)

    monkeypatch.setattr(sources, "open_stream", lambda source: Camera(100))
    with pytest.raises(MemoryError):
        walk("rtsp://user:secret@camera/stream", tmp_path / "out", stepper=Dies())
    with pytest.raises(VideoError, match="cannot be resumed") as caught:
        walk("rtsp://user:secret@camera/stream", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 24
    written = b"".join(content(tmp_path / "out").values()) + (tmp_path / "out" / "summary.json").read_bytes() + str(caught.value).encode()
    assert b"rtsp://camera/stream" in written
    assert b"secret" not in written


def test_the_size_is_known_across_a_stop(tmp_path, monkeypatch):
    sizes = [64] * 4 + [80] * 4
    frames = [Frame(index=index, time_s=index / 9, image=np.zeros((48, width, 3), np.uint8)) for index, width in enumerate(sizes)]
    video = make_video(tmp_path / "v.mp4", 8)
    monkeypatch.setattr(VideoReader, "stream", lambda _reader, start=0: iter(frames[start:]))
    assert walk(video, tmp_path / "out", part_frames=4, stop=iter((True, False, False)).__next__)["frames"] == 4
    with pytest.raises(VideoError, match="the size of the frames changes") as caught:
        walk(video, tmp_path / "out", part_frames=4)
    assert caught.value.lines["reason"] == "80 x 48, 64 x 48 before"
