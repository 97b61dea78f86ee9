"""The settings of a run's data through an exported file, and those that are refused there."""

import dataclasses
import json
from typing import Any

import pytest

from vidkd.base.errors import ConfigError
from vidkd.data.config import NO_FOLDER, SHOWN, DataConfig, shown_data, shown_settings
from vidkd.data.flow import FlowConfig
from vidkd.data.observation import ObserveConfig, WindowConfig
from vidkd.data.transforms import TransformConfig
from vidkd.runtime.metadata import ClassifierMetadata, ClipFormat

TRAINED = DataConfig(
    root="/somewhere/on/another/machine",
    split="2",
    window=WindowConfig(frames=4, stride=3, rule="uniform", flow_step=2, short_clip="hold"),
    observe=ObserveConfig(protocol="anticipation", gap_s=0.5, observe_s=None, fractions=(0.25, 1.0)),
    transform=TransformConfig(short_side=40, crop=32, square=True),
    flow=FlowConfig(preset="medium"),
    decode_short_side=None,
    decoder="pyav",
    eval_clips=5,
    eval_crops=3,
    batch_size=2,
)


def metadata(data: DataConfig = TRAINED, **over: Any) -> ClassifierMetadata:
    shown = json.loads(json.dumps(shown_settings(data)))
    for key, value in over.items():
        *path, last = key.split("__")
        place = shown
        for name in path:
            place = place[name]
        place[last] = value
    form = ClipFormat(frames=4, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    return ClassifierMetadata(classes=("a",), view="rgb", input=form, shown=shown, vidkd="0")


def test_what_decides_the_frames_comes_through_and_what_names_a_data_set_does_not() -> None:
    found = shown_data(metadata(), "net.onnx")
    assert {name: getattr(found, name) for name in SHOWN} == {name: getattr(TRAINED, name) for name in SHOWN}
    assert found.footage == TRAINED.footage
    rest = {entry.name for entry in dataclasses.fields(DataConfig)} - set(SHOWN)
    assert all(getattr(found, name) == getattr(DataConfig(), name) for name in rest)


def test_every_setting_that_decides_what_is_read_is_carried() -> None:
    """A field that is added to what is read from a file has to be carried too."""
    assert {entry.name for entry in dataclasses.fields(TRAINED.footage)} <= set(SHOWN)


def test_the_folder_of_stored_flow_stays_behind() -> None:
    stored = dataclasses.replace(TRAINED, flow=FlowConfig(source="stored", folder="/secret/flow"))
    assert shown_data(metadata(stored), "net.onnx").flow.folder == NO_FOLDER


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"root": "/etc"}, "unknown key 'shown.root'"),
        ({"window__color": 1}, "unknown key 'shown.window.color'"),
        ({"window__rule": "every"}, "shown.window.rule must be one of dense, uniform"),
        ({"window__stride": 2.5}, "shown.window.stride must be a whole number"),
        ({"window__stride": 0}, "window.stride must be at least 1"),
        ({"window__frames": 8}, "shown.window.frames is 8, the network takes 4"),
        ({"transform__crop": 24}, "shown.transform.crop is 24, the network takes 32"),
        ({"observe__gap_s": "1"}, "shown.observe.gap_s must be a "),
        ({"observe__gap_s": float("nan")}, "shown.observe.gap_s must be a "),
        ({"observe__fractions": [2.0]}, "each named once and in (0, 1]"),
        ({"decoder": "opencv"}, "shown.decoder must be one of auto, decord, pyav"),
    ],
)
def test_settings_that_cannot_be(over: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shown_data(metadata(**over), "net.onnx")
    assert text in str(caught.value)
    assert "net.onnx (embedded)" in str(caught.value)


def test_settings_that_are_missing() -> None:
    whole = metadata()
    partial = dataclasses.replace(whole, shown={name: value for name, value in whole.shown.items() if name not in ("window", "flow")})
    with pytest.raises(ConfigError, match=r"missing: shown.window, shown.flow"):
        shown_data(partial, "net.onnx")
