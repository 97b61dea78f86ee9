"""What model cards say of resizing, held against what is done to frames."""

import dataclasses

import numpy as np
import pytest

from vidkd.compress.export_card import resizing_text as of_classifier
from vidkd.compress.export_detector import resizing_text as of_detector
from vidkd.data.config import DataConfig
from vidkd.data.exported import shown_settings
from vidkd.data.transforms import TransformConfig, evaluation_geometry, working_size
from vidkd.runtime.letterbox import RESIZE_MODES, RESIZE_WORDS, Letterbox, ResizeMode
from vidkd.runtime.metadata import InputFormat


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_words_of_a_detector_tell_what_its_letterbox_does(mode: ResizeMode) -> None:
    said = of_detector(InputFormat(size=(64, 48), layout="NCHW", colour="rgb", pixel_max=1, resize=mode, fill=77))
    assert said.startswith(RESIZE_WORDS[mode])
    assert said.endswith("to 64 x 48 pixels")
    letterbox = Letterbox.fit((100, 50), (64, 48), mode)
    inside = letterbox.apply(np.full((50, 100, 3), 255, np.uint8), 77)
    assert ("with the value 77" in said) == bool((inside == 77).any())
    kept = letterbox.width / letterbox.height == 2
    assert ("aspect kept" in said, "scaled apart" in said) == (kept, not kept)
    assert ("in the middle" in said) == (0 < letterbox.top == 48 - letterbox.height - letterbox.top)
    assert ("upper left corner" in said) == (letterbox.top == 0 and letterbox.height < 48)


def test_words_of_a_classifier_tell_its_geometry() -> None:
    config = DataConfig(transform=TransformConfig(short_side=72, crop=64), decode_short_side=128)
    assert of_classifier(shown_settings(config)) == (
        "a shorter side above 128 pixels is shrunk to that when decoded; crop: aspect kept, the shorter side to 72 pixels; "
        "the middle square of that side is cut out and resized to 64 x 64; nothing padded"
    )
    height, width = working_size(100, 200, config.transform)
    square = evaluation_geometry(height, width, config.transform)
    assert (height, width, square.side, square.left, square.size) == (72, 144, 72, 36, 64)


def test_words_of_a_classifier_with_other_settings() -> None:
    square = DataConfig(transform=TransformConfig(short_side=72, crop=64, square=True), decode_short_side=None)
    assert of_classifier(shown_settings(square)) == (
        "stretch: both sides scaled apart to 72 x 72 pixels, then to 64 x 64; nothing cut or padded"
    )
    assert working_size(100, 200, square.transform) == (72, 72)
    crops = dataclasses.replace(square, eval_crops=3, transform=TransformConfig())
    assert "the middle square (judged on 3 squares along the longer side) of that side" in of_classifier(shown_settings(crops))
