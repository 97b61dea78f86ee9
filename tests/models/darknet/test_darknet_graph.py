import dataclasses
from pathlib import Path

import pytest
from reference_nets import CONFIGS, EVERY_LAYER

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import parse_cfg, read_cfg
from vidkd.models.darknet.graph import IMAGE, heads_of, trace

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
YOLO = "[yolo]\nanchors=1,2\nclasses=2\n"


def heads(text: str) -> object:
    config = parse_cfg(NET + text, Path("some.cfg"))
    return heads_of(config, trace(config))


def test_sources_and_sizes() -> None:
    nodes = trace(parse_cfg(EVERY_LAYER))
    assert [node.sources for node in nodes[:6]] == [(IMAGE,), (0,), (1,), (2,), (3, 1), (4,)]
    assert [node.shape for node in nodes[:6]] == [(8, 32, 48)] * 5 + [(8, 16, 24)]
    assert nodes[9].sources == (8, 6, 5)
    assert nodes[9].shape == (6 + 12 + 8, 16, 24)
    assert (nodes[7].shape, nodes[12].shape, nodes[13].shape) == ((4, 16, 24), (52, 16, 24), (52, 8, 12))


def test_heads_hold_their_own_anchors_in_the_order_of_the_mask() -> None:
    config = parse_cfg(EVERY_LAYER)
    first, second = heads_of(config, trace(config))
    assert (first.layer, first.source, first.stride, first.scale_x_y, first.classes) == (18, 16, 16, 1.05, 3)
    assert first.anchors == ((12, 20), (25, 17), (40, 44))
    assert (second.layer, second.source, second.stride, second.mask) == (23, 21, 8, (0, 3))
    assert second.anchors == ((8, 9), (40, 44))


def test_student_and_oracle_of_the_demo_share_their_cells() -> None:
    student, oracle = (read_cfg(CONFIGS / f"{name}.cfg") for name in ("tiny_student", "small_oracle"))
    assert student.net == oracle.net
    places = [[dataclasses.replace(head, layer=0, source=0) for head in heads_of(config, trace(config))] for config in (student, oracle)]
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("[route]\nlayers=0\n", 5, "layer 0 is none of the 0 before this one"),
        ("[convolutional]\n[shortcut]\nfrom=-2\n", 6, "layer -2 is none of the 1 before this one"),
        ("[convolutional]\nfilters=2\n[upsample]\n[route]\nlayers=-1,0\n", 8, "joins 2x64x128 and 2x32x64, which differ"),
        ("[convolutional]\nfilters=3\n[route]\nlayers=-1\ngroups=2\n", 7, "3x32x64 cannot be parted into groups=2"),
        ("[convolutional]\nfilters=2\n[convolutional]\nfilters=4\n[shortcut]\nfrom=0\n", 9, "adds 4x32x64 and 2x32x64, which differ"),
        ("[convolutional]\nfilters=4\ngroups=2\n", 5, "3 channels cannot be shared by groups=2"),
        ("[convolutional]\nsize=33\n", 5, "nothing is left of 3x32x64"),
        ("[maxpool]\nsize=40\npadding=0\n", 5, "nothing is left of 3x32x64"),
        ("[convolutional]\nfilters=7\n", None, "at least one [yolo]"),
        ("[convolutional]\nfilters=100000000\n", 5, "100000000x32x64 values for one image, more than 268,435,456"),
        ("[convolutional]\nsize=100001\npad=1\n", 5, "more than 536,870,912 weights"),
        ("[convolutional]\nfilters=9999\nsize=3\nstride=32\n[convolutional]\nfilters=9999\nsize=3\npad=1\n", 9, "536,870,912 weights"),
        ("[upsample]\nstride=100000\n", 5, "values for one image"),
        (f"[convolutional]\nfilters=8\n{YOLO}", 5, "filters=8 before [yolo] must be 7: 1 anchors x (5 + 2 classes)"),
        (f"[convolutional]\nfilters=7\n[dropout]\n{YOLO}", 8, "[yolo] must follow a [convolutional]"),
        (YOLO, 5, "[yolo] must follow a [convolutional]"),
        (f"[convolutional]\nfilters=7\n{YOLO}[convolutional]\n", 10, "[convolutional] follows [yolo]"),
        (f"[convolutional]\nfilters=7\n{YOLO}[route]\nlayers=-1\n", 10, "layer -1 is a [yolo]"),
        (f"[convolutional]\nfilters=7\nsize=3\n{YOLO}", 8, "64x32 does not divide evenly into the 62x30 cells"),
        (f"[maxpool]\nsize=5\npadding=0\nstride=1\n[maxpool]\nsize=4\nstride=4\n[convolutional]\nfilters=7\n{YOLO}", 14, "does not divide"),
        (
            f"[convolutional]\nfilters=7\n{YOLO}[route]\nlayers=0\n[convolutional]\nfilters=8\n[yolo]\nanchors=1,2\nclasses=3\n",
            None,
            "heads differ in their classes: [2, 3]",
        ),
    ],
)
def test_layers_that_do_not_fit_together(text: str, line: int | None, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        heads(text)
    assert part in str(caught.value)
    assert (f"some.cfg:{line}" if line else "some.cfg") in str(caught.value)


@pytest.mark.parametrize("size", ["width=100000\nheight=32", "width=64\nheight=100000000"])
def test_an_input_of_too_many_pixels_is_refused(size: str) -> None:
    config = parse_cfg(f"[net]\n{size}\nchannels=3\n[convolutional]\nfilters=7\n{YOLO}".replace("height=32", "height=100000"))
    with pytest.raises(ConfigError, match="values for one image"):
        trace(config)
