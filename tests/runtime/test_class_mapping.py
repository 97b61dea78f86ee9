import pytest

from vidkd.base.errors import ConfigError
from vidkd.runtime.detections import Detections
from vidkd.runtime.mapping import map_classes

SOURCE = ("Person", "traffic_light", "people", "T-shirt", "kite")
TARGET = ("dog", "traffic  light", "person", "t shirt")


def test_names_meet_across_case_underscores_hyphens_and_spaces_alone():
    mapping = map_classes(SOURCE, TARGET)
    assert mapping.labels.tolist() == [2, 1, -1, 3, -1]
    assert mapping.only_source == ("people", "kite")
    assert mapping.only_target == ("dog",)


def test_detections_are_translated_and_those_of_unknown_classes_left_out():
    found = Detections(
        boxes=[[k, 0, 9, 9] for k in range(4)],
        scores=[0.9, 0.8, 0.7, 0.6],
        labels=[4, 0, 3, 0],
        frame_index=3,
        time_s=1.0,
        track_ids=[1, 2, 3, 4],
    )
    got = map_classes(SOURCE, TARGET).translate(found)
    assert got.labels.tolist() == [2, 3, 2]
    assert got.boxes[:, 0].tolist() == [1, 2, 3]
    assert got.track_ids.tolist() == [2, 3, 4]
    assert (got.frame_index, got.time_s) == (3, 1.0)


def test_lists_that_cannot_be_mapped_are_refused():
    with pytest.raises(ConfigError, match="class names 'Dog' and 'dog' are the same"):
        map_classes(("Dog", "dog"), TARGET)
    with pytest.raises(ConfigError, match="class names 'a b' and 'a_b' are the same"):
        map_classes(TARGET, ("a b", "a_b"))
    with pytest.raises(ConfigError, match=r"no class in common\n *first *: cat, cow\n *second *: a, b, c, d, e, \.\.\."):
        map_classes(("cat", "cow"), tuple("abcdef"))
