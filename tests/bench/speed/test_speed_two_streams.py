"""An RGB and a flow network that answer together: by the mean of their probabilities, on one window that is decoded once."""

from pathlib import Path

import numpy as np
import pytest
from speed_models import TINY_CLASSES, tiny_checkpoint, tiny_classifier, tiny_export, tiny_run

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.accuracy import judge_clips, shown_clips
from vidkd.bench.speed.config import DataSpec, ModelSpec
from vidkd.bench.speed.cost import cost_of
from vidkd.bench.speed.end_to_end import ClipReader
from vidkd.bench.speed.opening import open_model
from vidkd.bench.speed.two_streams import joined, parted
from vidkd.engine.evaluate import judge
from vidkd.models.saved import save_classifier


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    return str(tiny_checkpoint(tmp_path / "rgb.pt", 0)), str(tiny_checkpoint(tmp_path / "flow.pt", 1, "flow"))


@pytest.mark.parametrize("flow_first", [False, True])
def test_the_answer_is_the_mean_of_both_on_the_same_window(pair: tuple[str, str], tiny_root: Path, flow_first: bool) -> None:
    rgb, flow = (open_model(ModelSpec(checkpoint=name), threads=1) for name in pair)
    spec = ModelSpec(checkpoint=pair[flow_first], ensemble_with=pair[not flow_first])
    both = open_model(spec, threads=1)
    assert str(both.input) == "rgb 4x32x32 and flow 4x32x32"
    data, clips = shown_clips(both, DataSpec(root=str(tiny_root)))
    alone = [ClipReader(one, DataSpec(root=str(tiny_root)), *shown_clips(one, DataSpec(root=str(tiny_root)))) for one in (rgb, flow)]
    reader = ClipReader(both, DataSpec(root=str(tiny_root)), data, clips)
    for _ in range(3):
        plain = reader.read_without_flow()
        sample, images, motion = reader.read(), alone[0].read(), alone[1].read()
        assert plain is not None
        np.testing.assert_array_equal(plain, images)
        np.testing.assert_array_equal(sample, joined(images, motion))
        mean = (rgb.answer(images).probabilities + flow.answer(motion).probabilities) / 2  # type: ignore[attr-defined]
        np.testing.assert_allclose(both.answer(sample), mean, atol=1e-12)
    assert both.input.noise(2, 0).shape == (2, 5, 4, 32, 32)


def test_rgb_and_flow_come_apart_as_they_were() -> None:
    rng = np.random.default_rng(0)
    images, motion = rng.integers(0, 256, (2, 3, 4, 6, 6)).astype(np.uint8), rng.normal(0, 4, (2, 2, 4, 6, 6)).astype(np.float32)
    found = parted(joined(images, motion))
    for one, other in zip(found, (images, motion), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_it_is_judged_by_the_mean_probabilities_of_each_clip(pair: tuple[str, str], tiny_root: Path) -> None:
    spec = DataSpec(root=str(tiny_root))
    single = [open_model(ModelSpec(checkpoint=name), threads=1) for name in pair]
    both = open_model(ModelSpec(checkpoint=pair[0], ensemble_with=pair[1]), threads=1)
    data, clips = shown_clips(both, spec)
    by_hand = [judge(one.model, clips, "test", data, TINY_CLASSES, device=next(one.model.parameters()).device).fullest for one in single]
    predicted = (by_hand[0].probabilities + by_hand[1].probabilities).argmax(1)
    accuracy = judge_clips(both, spec, data, clips)
    assert accuracy.cell is not None
    np.testing.assert_array_equal(accuracy.cell.correct, predicted == by_hand[0].labels)
    assert accuracy.metrics["top1"].value == pytest.approx((predicted == by_hand[0].labels).mean())


def test_it_costs_what_both_cost(pair: tuple[str, str]) -> None:
    spec = ModelSpec(checkpoint=pair[0], ensemble_with=pair[1])
    costs = [cost_of(ModelSpec(checkpoint=name), open_model(ModelSpec(checkpoint=name), threads=1)) for name in pair]
    found = cost_of(spec, open_model(spec, threads=1))
    for name in ("parameters", "macs", "macs_torch", "file_bytes"):
        assert getattr(found, name) == sum(getattr(cost, name) for cost in costs)


def test_an_exported_file_may_be_a_stream_and_its_unknown_costs_stay_unknown(pair: tuple[str, str], tmp_path: Path) -> None:
    spec = ModelSpec(checkpoint=str(tiny_export(tmp_path / "rgb.onnx")), ensemble_with=pair[1])
    both = open_model(spec, threads=1)
    assert both.runs_on == "ONNX Runtime; torch"
    assert both.answer(both.input.noise(2, 0)).shape == (2, 3)  # type: ignore[attr-defined]
    found = cost_of(spec, both)
    assert found.macs is None
    assert "not in the file" in found.notes[0]


def test_what_are_no_two_streams_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one that sees flow"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=pair[0]), threads=1)
    other = tiny_checkpoint(tmp_path / "other.pt", 1, "flow", ("Right", "Down", "Shrink"))
    with pytest.raises(ConfigError, match="other classes"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=str(other)), threads=1)
    saved = tiny_classifier(1, "flow")
    run = tiny_run("flow")
    run["data"]["window"] = {"frames": 4, "stride": 1}
    saved.run.update(run)
    save_classifier(tmp_path / "stride.pt", saved)
    with pytest.raises(ConfigError, match="other window"):
        open_model(ModelSpec(checkpoint=pair[0], ensemble_with=str(tmp_path / "stride.pt")), threads=1)
    with pytest.raises(ConfigError, match="ensemble_with is for the"):
        ModelSpec(detector="x.cfg", ensemble_with=pair[1])
