import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_nets import CONFIGS, EVERY_LAYER
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import parse_cfg, read_cfg, to_cfg
from vidkd.models.darknet.cfg import Convolutional, Dropout, Maxpool, Net, Route, Shortcut, Upsample, Yolo
from vidkd.models.darknet.graph import ACTIVATION_MODULES, IMAGE, build_layer, heads_of, trace

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
ANCHORS = "anchors=1,2, 3,4\nnum=2\n"


def only_layer(text: str) -> object:
    (layer,) = parse_cfg(NET + text).layers
    return layer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[convolutional]\n", Convolutional(activation="logistic")),
        (
            "[conv]\nbatch_normalize = 1\nfilters=8\nsize=5\nstride=2\npad=1\ngroups=4\ndilation=2\nactivation=mish\n",
            Convolutional(batch_normalize=True, filters=8, size=5, stride=2, padding=2, groups=4, dilation=2, activation="mish"),
        ),
        ("[convolutional]\nsize=5\npadding=1\n", Convolutional(size=5, padding=1)),
        ("[convolutional]\nsize=3\npad=0\n", Convolutional(size=3, padding=0)),
        ("[convolutional]\nsize=7\npadding=1\npad=1\n", Convolutional(size=7, padding=3)),
        ("[maxpool]\nsize=2\nstride=1\n", Maxpool(size=2, stride=1, padding=1)),
        ("[maxpool]\nstride=2\n", Maxpool(size=2, stride=2, padding=1)),
        ("[max]\nsize=3\npadding=0\n", Maxpool(size=3, stride=1, padding=0)),
        ("[upsample]\n", Upsample(stride=2)),
        ("[upsample]\nstride=4\nscale=1.0\n", Upsample(stride=4)),
        ("[route]\nlayers = -1, 8,\n", Route(layers=(-1, 8))),
        ("[route]\nlayers=0\ngroups=2\ngroup_id=1\n", Route(layers=(0,), groups=2, group_id=1)),
        ("[shortcut]\nfrom=-3\n", Shortcut(from_layer=-3, activation="linear")),
        ("[dropout]\nprobability=.15 # as trained\n", Dropout(probability=0.15)),
        (f"[yolo]\n{ANCHORS}", Yolo(mask=(0, 1), anchors=((1, 2), (3, 4)), classes=20, scale_x_y=1.0)),
        (
            f"[yolo]\nmask=1\nclasses=7\nscale_x_y=1.05\nnew_coords=0\n{ANCHORS}",
            Yolo(mask=(1,), anchors=((1, 2), (3, 4)), classes=7, scale_x_y=1.05),
        ),
    ],
)
def test_options_and_their_defaults(text: str, expected: object) -> None:
    assert only_layer(text) == expected


def test_comments_blank_lines_and_training_options_are_no_part_of_the_network() -> None:
    text = "# top\n\n[network]\n batch = 64\nwidth=64\nheight=32\nchannels=3\n; a remark\npolicy=steps\nsteps=1,2\n"
    config = parse_cfg(text)
    assert config.net == Net(width=64, height=32, channels=3, training=(("batch", "64"), ("policy", "steps"), ("steps", "1,2")))


@pytest.mark.parametrize(
    "text",
    [
        EVERY_LAYER,
        *(path.read_text() for path in sorted(CONFIGS.glob("*.cfg"))),
        NET
        + "batch=8\nlearning_rate=.001\n[convolutional]\nsize=3\ndilation=2\npadding=3\nactivation=relu6\nstopbackward=1\n"
        + "[maxpool]\nsize=5\nstride=3\npadding=2\n[dropout]\nprobability=.125\n[upsample]\nstride=3\n[route]\nlayers=-1,0\n"
        + "[yolo]\nanchors=1.5,2, 3.1415926,1e3\nnum=2\njitter=.3\n",
    ],
)
def test_a_written_cfg_reads_as_the_same_network(text: str) -> None:
    config = parse_cfg(text)
    assert len(config.layers) == text.count("[") - 1
    assert parse_cfg(to_cfg(config)) == config
    assert to_cfg(parse_cfg(to_cfg(config))) == to_cfg(config)


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("[convolutionl]\n", 5, ("unknown section 'convolutionl'", "convolutional")),
        ("[avgpool]\n", 5, ("unknown section 'avgpool'", "[yolo] heads only")),
        ("[convolutional]\nfiltres=8\n", 6, ("unknown option of [convolutional] 'filtres'", "filters")),
        ("[convolutional]\nfilters=8\n\nfilters=9\n", 8, ("'filters' occurs twice",)),
        ("[convolutional]\nfilters=eight\n", 6, ("filters of [convolutional] must be a whole number, not 'eight'",)),
        ("[convolutional]\nfilters=" + "9" * 5000 + "\n", 6, ("must be a whole number",)),
        ("[convolutional]\npad=2\n", 6, ("pad of [convolutional] must be 0 or 1, not '2'",)),
        ("[convolutional]\nactivation=leeky\n", 6, ("one of linear, leaky", "not 'leeky'")),
        ("[upsample]\nscale=2\n", 6, ("scale of [upsample] must be 1, other values are not supported, not '2'",)),
        ("[route]\n", 5, ("[route] has no 'layers'",)),
        ("[route]\nlayers=-1;2\n", 6, ("layers of [route] must be whole numbers", "not '-1;2'")),
        ("[shortcut]\nactivation=linear\n", 5, ("[shortcut] has no 'from'",)),
        ("[dropout]\nprobability=often\n", 6, ("probability of [dropout] must be a number, not 'often'",)),
        ("[yolo]\nnum=1\n", 5, ("[yolo] has no 'anchors'",)),
        ("[yolo]\nanchors=1,2,3\nnum=1\n", 6, ("pairs of numbers above 0",)),
        ("[yolo]\nanchors=1,nan\nnum=1\n", 6, ("pairs of numbers above 0",)),
        ("[yolo]\nanchors=1,2\nnum=3\n", 5, ("num=3, but [yolo] lists 1 anchors",)),
        ("[yolo]\nmask=0,2\nanchors=1,2,3,4\nnum=2\n", 5, ("must name anchors from 0 to 1",)),
        ("[yolo]\nanchors=1,2\nnew_coords=1\n", 7, ("new_coords of [yolo] must be 0, other values are not supported",)),
        ("[yolo\n", 5, ("neither a [section] nor an option=value",)),
        ("[route]\nlayers\n", 6, ("neither a [section] nor an option=value",)),
    ],
)
def test_errors_name_the_line_and_the_nearest_name(text: str, line: int, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cfg(NET + text, Path("some.cfg"))
    message = str(caught.value)
    assert f"some.cfg:{line}" in message.splitlines()[1]
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "begins with [net]"),
        ("[convolutional]\n", "begins with [net]"),
        ("width=3\n", "neither a [section]"),
        ("[net]\nwidth=64\nheight=64\n", "[net] has no 'channels'"),
        ("[net]\nwidht=64\nwidth=64\nheight=64\nchannels=3\n", "did you mean : width"),
    ],
)
def test_errors_of_the_beginning(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part.replace("[", r"\[")):
        parse_cfg(text)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read cfg") as error:
        read_cfg(tmp_path / "absent.cfg")
    assert error.value.lines["reason"] == "No such file or directory"
    (tmp_path / "weights.cfg").write_bytes(b"\xff\xfe\x00[net]")
    with pytest.raises(ConfigError, match="cannot read cfg"):
        read_cfg(tmp_path / "weights.cfg")


def test_another_number_of_classes_moves_heads_and_the_filters_before_them_alone() -> None:
    config = read_cfg(CONFIGS / "yolov3_tiny.cfg")
    changed = config.with_classes(3)
    differing = [index for index, pair in enumerate(zip(config.layers, changed.layers, strict=True)) if pair[0] != pair[1]]
    assert differing == [15, 16, 22, 23]
    assert [changed.layers[index].filters for index in (15, 22)] == [24, 24]
    assert [changed.layers[index].classes for index in (16, 23)] == [3, 3]
    assert changed.with_classes(80) == config


HEAD_OF_CFG = "[net]\nwidth=64\nheight=32\nchannels=3\n"
YOLO = "[yolo]\nanchors=1,2\nclasses=2\n"


def heads(text: str) -> object:
    config = parse_cfg(HEAD_OF_CFG + text, Path("some.cfg"))
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


def slow_maxpool(features: np.ndarray, size: int, stride: int, padding: int) -> np.ndarray:
    """One window after the other, padding // 2 to the left and above, what lies outside never the largest."""
    height, width = ((side + padding - size) // stride + 1 for side in features.shape)
    pooled = np.full((height, width), -np.inf, np.float32)
    for y, x, dy, dx in itertools.product(range(height), range(width), range(size), range(size)):
        row, column = y * stride + dy - padding // 2, x * stride + dx - padding // 2
        if 0 <= row < features.shape[0] and 0 <= column < features.shape[1]:
            pooled[y, x] = max(pooled[y, x], features[row, column])
    return pooled


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(2, 2, 1), (2, 1, 1), (2, 2, 0), (3, 1, 2), (3, 2, 2), (5, 1, 4), (4, 2, 3), (6, 3, 5)],
)
@pytest.mark.parametrize("side", [7, 10])
def test_maxpool_is_darknets(size: int, stride: int, padding: int, side: int) -> None:
    features = -torch.rand(2, 3, side, side + 3, generator=torch.Generator().manual_seed(side)) - 1
    pooled = build_layer(Maxpool(size=size, stride=stride, padding=padding), 3)(features)
    slow = [[slow_maxpool(channel.numpy(), size, stride, padding) for channel in sample] for sample in features]
    np.testing.assert_array_equal(pooled.numpy(), np.array(slow))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [-2.0, 0.5, 7.0]),
        ("leaky", [-0.2, 0.5, 7.0]),
        ("relu", [0.0, 0.5, 7.0]),
        ("relu6", [0.0, 0.5, 6.0]),
        ("logistic", [0.1192029, 0.6224593, 0.9990889]),
        ("swish", [-0.2384058, 0.3112297, 6.9936226]),
        ("mish", [-0.2525015, 0.3752454, 6.9999883]),
    ],
)
def test_activations(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(ACTIVATION_MODULES[name]()(torch.tensor([-2.0, 0.5, 7.0])), torch.tensor(expected), rtol=0, atol=1e-6)


def ramp(*shape: int) -> Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


def test_dilation_spreads_kernel_and_padding() -> None:
    layer = build_layer(Convolutional(filters=1, size=3, padding=1, dilation=2, activation="linear"), 1)
    layer.conv.weight.data.copy_(ramp(1, 1, 3, 3) + 1)
    layer.conv.bias.data.fill_(0.5)
    single = torch.zeros(1, 1, 5, 5)
    single[0, 0, 2, 2] = 1
    out = layer(single)[0, 0].detach()
    assert out.shape == (5, 5)
    assert torch.equal(out[::2, ::2], torch.flip(ramp(3, 3) + 1, (0, 1)) + 0.5)
    assert (out[1::2] == 0.5).all()


def test_batch_normalisation_is_between_convolution_and_activation() -> None:
    layer = build_layer(Convolutional(batch_normalize=True, filters=1, activation="leaky"), 1).eval()
    layer.conv.weight.data.fill_(2)
    for tensor, value in ((layer.norm.running_mean, 3.0), (layer.norm.running_var, 4.0), (layer.norm.weight, 10.0), (layer.norm.bias, 1.0)):
        tensor.data.fill_(value)
    assert layer.conv.bias is None
    # (2x - 3) / 2 * 10 + 1, then the slope of 0.1 below zero
    expected = torch.tensor([6.0, -1.4]).view(1, 1, 1, 2)
    torch.testing.assert_close(layer(torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)), expected, rtol=1e-5, atol=1e-5)


def test_route_takes_the_same_part_of_each_input() -> None:
    first, second = ramp(1, 4, 1, 1), ramp(1, 2, 1, 1) + 10
    assert build_layer(Route(layers=(-1, -2), groups=2, group_id=1), 4)(first, second).flatten().tolist() == [2, 3, 11]
    assert build_layer(Route(layers=(-1, -2)), 4)(first, second).flatten().tolist() == [0, 1, 2, 3, 10, 11]


def test_shortcut_activates_the_sum() -> None:
    out = build_layer(Shortcut(from_layer=-2, activation="relu"), 2)(torch.tensor([1.0, 1.0]), torch.tensor([1.0, -3.0]))
    assert out.tolist() == [2.0, 0.0]
