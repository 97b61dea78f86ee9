from pathlib import Path

import pytest
from reference_nets import CONFIGS, EVERY_LAYER

from vidkd.base.errors import ConfigError
from vidkd.models.darknet import parse_cfg, read_cfg, to_cfg
from vidkd.models.darknet.blocks import Convolutional, Dropout, Maxpool, Net, Route, Shortcut, Upsample, Yolo

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
