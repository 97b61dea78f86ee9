"""From file to answer: what is decoded, what each part takes, on time that moves only when told and on real files."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_clocks import FakeTime
from numpy.typing import NDArray
from speed_models import FRAMES, tiny_checkpoint, tiny_classifier

from vidkd.base.timing import timed
from vidkd.bench.speed.accuracy import shown_clips
from vidkd.bench.speed.config import BenchmarkConfig, DataSpec, ModelSpec
from vidkd.bench.speed.end_to_end import ClipReader, FrameReader, end_to_end_block, samples_of
from vidkd.bench.speed.opening import OpenModel, clip_input, open_model
from vidkd.bench.speed.run import _shown
from vidkd.data.manifest import Manifest
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.engine.setup import evaluation_set
from vidkd.models.saved import save_classifier
from vidkd.video import open_video, write_video


def test_clips_of_which_nothing_can_be_observed_are_not_read(tiny_root: Path, tmp_path: Path) -> None:
    """They are found out by judging, and the first of the data set is one: in the .01 s that end .1 s before .28 s there is no frame."""
    saved = tiny_classifier()
    saved.run["data"] |= {
        "observe": {"protocol": "anticipation", "gap_s": 0.1, "observe_s": 0.01},
        "window": {"frames": FRAMES, "rule": "uniform", "short_clip": "hold"},
    }
    save_classifier(tmp_path / "early.pt", saved)
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    rows = [
        dataclasses.replace(clip, start_s=0.27 if number else 0.28, end_s=0.4) for number, clip in enumerate(manifest.select("1", "test"))
    ]
    dataclasses.replace(manifest, clips=tuple(rows)).write(tmp_path / "rows.jsonl")
    model = ModelSpec(checkpoint=str(tmp_path / "early.pt"))
    spec = DataSpec(root=str(tiny_root), manifest=str(tmp_path / "rows.jsonl"))
    opened = open_model(model, threads=1)
    shown = _shown(BenchmarkConfig(models={"early": model}, data=spec), {"early": opened})["early"]
    assert shown.accuracy is not None
    assert shown.reader is not None
    assert len(shown.accuracy.unobservable) == 1
    reader = shown.reader()
    data, clips = shown_clips(opened, spec)
    wanted = evaluation_set(clips, "test", data, ["rgb"])
    for number in [*range(1, len(rows)), 1]:
        np.testing.assert_array_equal(reader.read()[0], wanted[(0, number)]["rgb"].numpy())


def test_a_model_that_is_judged_at_several_shares_is_timed_at_the_last(tiny_root: Path, tmp_path: Path) -> None:
    saved = tiny_classifier()
    saved.run["data"] |= {
        "observe": {"protocol": "early", "fractions": [0.4, 0.8]},
        "window": {"frames": FRAMES, "rule": "uniform", "short_clip": "hold"},
    }
    save_classifier(tmp_path / "early.pt", saved)
    model, spec = ModelSpec(checkpoint=str(tmp_path / "early.pt")), DataSpec(root=str(tiny_root))
    opened = open_model(model, threads=1)
    shown = _shown(BenchmarkConfig(models={"early": model}, data=spec), {"early": opened})["early"]
    assert shown.accuracy is not None
    assert shown.reader is not None
    assert shown.accuracy.fractions == (0.4, 0.8)
    data, clips = shown_clips(opened, spec)
    wanted = {fraction: evaluation_set(clips, "test", data, ["rgb"], fraction=fraction)[(0, 0)]["rgb"].numpy() for fraction in (0.4, 0.8)}
    np.testing.assert_array_equal(shown.reader().read()[0], wanted[0.8])
    assert not np.array_equal(wanted[0.4], wanted[0.8])


class SlowReader:
    """Takes .3 s to decode, and .2 s more for flow; the sample is its number."""

    def __init__(self, time: FakeTime, *, flow: bool) -> None:
        self.time, self.flow, self.count = time, flow, 0

    def read(self) -> NDArray[np.float32]:
        self.time.spend(0.5 if self.flow else 0.3)
        self.count += 1
        return np.full(1, self.count, np.float32)

    def read_without_flow(self) -> NDArray[np.float32] | None:
        if not self.flow:
            return None
        self.time.spend(0.3)
        return np.zeros(1, np.float32)


@pytest.mark.parametrize("view", ["rgb", "flow"])
def test_parts_are_apart_and_flow_is_what_it_adds(view: str) -> None:
    time, seen = FakeTime(), []

    def answer(sample: NDArray[np.float32]) -> None:
        seen.append(float(sample[0]))
        time.spend(0.1 * float(sample[0]))

    opened = OpenModel(
        kind="classifier",
        runs_on="fake",
        threads=1,
        answer=answer,
        input=clip_input([view], 1, 1),  # type: ignore[list-item]
    )
    clock = partial(timed, clock=time)
    found = end_to_end_block(opened, SlowReader(time, flow=view == "flow"), calls=3, clock=clock, host=clock)
    assert seen == [1, 2, 3, 4], "the first is not timed"
    assert found["decode"] == pytest.approx([0.3] * 3)
    assert found["model"] == pytest.approx([0.2, 0.3, 0.4])
    read_s = 0.5 if view == "flow" else 0.3
    assert found["end_to_end"] == pytest.approx([read_s + 0.1 * number for number in (2, 3, 4)])
    if view == "flow":
        assert found["flow"] == pytest.approx([0.2] * 3)
    else:
        assert "flow" not in found


@pytest.mark.parametrize("view", ["rgb", "flow"])
def test_clips_are_those_of_an_evaluation(tiny_root: Path, tmp_path: Path, view: str) -> None:
    opened = open_model(ModelSpec(checkpoint=str(tiny_checkpoint(tmp_path / "x.pt", view=view))), threads=1)
    spec = DataSpec(root=str(tiny_root))
    data, clips = shown_clips(opened, spec)
    reader, wanted = ClipReader(opened, spec, data, clips), evaluation_set(clips, "test", data, [view])
    for number in [0, 1, 2, 3, 4, 5, 0]:  # around the end
        plain = reader.read_without_flow()
        found = reader.read()
        np.testing.assert_array_equal(found[0], wanted[(0, number)][view].numpy())
        if view == "rgb":
            assert plain is None
            assert found.dtype == np.uint8
        else:
            assert plain is not None
            np.testing.assert_array_equal(plain[0], evaluation_set(clips, "test", data, ["rgb"])[(0, number)]["rgb"].numpy())
            assert found.dtype == np.float32
    assert samples_of(ClipReader(opened, spec, data, clips), 8).shape == (8, *found.shape[1:])


def annotated(path: str, index: int) -> LabelledFrame:
    nothing = np.zeros(0)
    return LabelledFrame(
        path=path,
        frame_index=index,
        time_s=index / 10,
        boxes=np.zeros((0, 4), np.float32),
        labels=nothing.astype(np.int64),
        ignore=nothing.astype(bool),
        width=32,
        height=24,
        group=path,
        subset="test",
    )


def test_frames_come_in_order_through_one_file_after_the_other(tmp_path: Path) -> None:
    for number, size in enumerate([(24, 32), (32, 32)]):
        frames = np.stack([np.full((*size, 3), 40 * index + 100 * number, np.uint8) for index in range(3)])
        write_video(tmp_path / f"{number}.mp4", frames, fps=10, lossless=True)
    truth = BoxManifest(
        name="two", root=tmp_path, classes=("cat",), frames=(annotated("0.mp4", 0), annotated("0.mp4", 2), annotated("1.mp4", 1))
    )
    reader = FrameReader(truth)
    assert reader.read_without_flow() is None
    found = [reader.read() for _ in range(7)]
    wanted = []
    for number in range(2):
        with open_video(tmp_path / f"{number}.mp4", backend="pyav") as video:
            wanted += [frame.image.copy() for frame in video.stream()]
    for got, frame in zip(found, [*wanted, wanted[0]], strict=True):
        np.testing.assert_array_equal(got[0], frame)
    batch = samples_of(FrameReader(truth), 5)
    assert batch.shape == (5, 24, 32, 3), "frames of another size are passed over"
    np.testing.assert_array_equal(batch[3], wanted[0])
