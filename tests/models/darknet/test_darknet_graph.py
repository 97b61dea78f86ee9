from pathlib import Path

import pytest
from reference_nets import EVERY_LAYER

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import parse_cfg
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


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("[route]\nlayers=0\n", 5, "[route] reads layer 0 or 0, and only 0 are before it"),
        ("[convolutional]\n[shortcut]\nfrom=-3\n", 6, "only 1 are before it"),
        ("[convolutional]\nfilters=2\n[upsample]\n[route]\nlayers=-1,0\n", 8, "[route] cannot read 2x64x128 and 2x32x64"),
        ("[convolutional]\nfilters=2\n[convolutional]\nfilters=4\n[shortcut]\nfrom=0\n", 9, "[shortcut] cannot read 4x32x64 and 2x32x64"),
        ("[convolutional]\nfilters=4\ngroups=2\n", 5, "in_channels must be divisible by groups"),
        ("[convolutional]\nfilters=6\ngroups=4\n", 5, "[convolutional] cannot read 3x32x64"),
        ("[convolutional]\nfilters=0\n", 5, "too small or too large"),
        ("[convolutional]\nstride=0\n", 5, "[convolutional] cannot read"),
        ("[convolutional]\nsize=33\n", 5, "[convolutional] cannot read 3x32x64"),
        ("[route]\nlayers=-1\ngroups=2\ngroup_id=2\n", 5, "[route] cannot read 3x32x64"),
        ("[convolutional]\nfilters=7\n", None, "at least one [yolo]"),
        ("[convolutional]\nfilters=100000000\n", 5, "too large for a network: 3x32x64 becomes 100000000x32x64"),
        (f"[convolutional]\nfilters={10**30}\n", 5, "[convolutional] cannot read 3x32x64"),
        ("[convolutional]\nsize=100001\npad=1\n", 5, "after 30,000,600,004 weights"),
        ("[convolutional]\nfilters=9999\nsize=3\nstride=32\n[convolutional]\nfilters=9999\nsize=3\npad=1\n", 9, "too large for a network"),
        (f"[convolutional]\nfilters=8\n{YOLO}", 5, "filters=8 before [yolo] must be 7: 1 anchors x (5 + 2 classes)"),
        (f"[convolutional]\nfilters=7\n[dropout]\n{YOLO}", 8, "[yolo] must follow a [convolutional]"),
        (f"[convolutional]\nfilters=7\nsize=3\n{YOLO}", 8, "64x32 does not divide evenly into the 62x30 cells"),
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
    with pytest.raises(ConfigError, match="too large for a network"):
        trace(config)
