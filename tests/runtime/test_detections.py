import numpy as np
import pytest

from vidkd.runtime.detections import Detections

FOUND = Detections(boxes=[[0, 0, 4, 4], [-2, 3, 30, 9]], scores=[0.9, 0.2], labels=[1, 0], frame_index=7, time_s=0.5, track_ids=[4, 6])


def test_parts_have_their_types_whatever_they_are_made_from():
    assert FOUND.boxes.dtype == np.float32
    assert FOUND.boxes.shape == (2, 4)
    assert FOUND.scores.dtype == np.float32
    assert FOUND.labels.dtype == np.int64


def test_selects_by_mask_and_by_indices_in_order():
    kept = FOUND.select(FOUND.scores > 0.5)
    assert kept.labels.tolist() == [1]
    assert kept.track_ids.tolist() == [4]
    assert (kept.frame_index, kept.time_s) == (7, 0.5)
    assert FOUND.select(np.asarray([1, 0])).scores.tolist() == pytest.approx([0.2, 0.9])


def test_boxes_are_cut_at_the_edges():
    assert FOUND.clipped(20, 6).boxes.tolist() == [[0, 0, 4, 4], [0, 3, 20, 6]]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in number"):
        Detections(boxes=[[0, 0, 1, 1]], scores=[0.5, 0.5], labels=[0])


def test_nothing_found_is_empty_and_keeps_its_place():
    nothing = Detections.none(frame_index=3, time_s=1.5)
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    assert nothing.at(4, None).frame_index == 4
