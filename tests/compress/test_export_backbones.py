"""Every backbone is exported, in float and in integers, and the files say what the network says, in ONNX Runtime and in OpenVINO."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from quick_backbones import quick_first
from zeroed_filters import lively

from vidkd.base.errors import ConfigError
from vidkd.compress import quantise as quantise_module
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.export import export
from vidkd.compress.export_classifier import ClassifierSource
from vidkd.compress.integer_layers import run_in_integers
from vidkd.compress.parity import Samples
from vidkd.compress.quantise import Integers, signal_to_noise_db
from vidkd.engine.config import load_config
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.backbones import BACKBONES
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.opening import open_exported_classifier

SIZES = {"tiny3d": (4, 32), "mvit_v2_s": (16, 224), "swin3d_t": (4, 64), "s3d": (16, 64)}
"""Frames and size of the crop, where 8 and 64 are not the least that a network takes, or more than it needs."""
BOUND_TO_ITS_BATCH = {"mvit_v2_s"}
TOO_LARGE_FOR_INTEGERS = {"mvit_v2_s": 20}
"""Finding the ranges of its activations, at the one size that it takes, needs more than so many GiB of memory."""
REFUSED_BY_OPENVINO = {"swin3d_t": "ScatterND-20"}
"""The operation that it does not convert: masks of windows that are not shifted along an axis are set on none of its places."""
CONVOLUTIONS = {
    **{"tiny3d": 5, "mobilenet_v3_small": 52, "r3d_18": 20, "mc3_18": 20, "r2plus1d_18": 37, "s3d": 77, "swin3d_t": 1},
    **{"x3d_xs": 114, "x3d_s": 114, "x3d_m": 114, "slow_r50": 53, "c2d_r50": 53, "r2plus1d_r50": 69},
}
"""Convolutions of each, in a count of their own."""
LEAST_SIGNAL_DB = {
    **{"tiny3d": 30, "mc3_18": 25, "r3d_18": 18, "swin3d_t": 18, "mobilenet_v3_small": 15, "c2d_r50": 11, "slow_r50": 8},
    **{"x3d_xs": 5, "x3d_s": 5, "x3d_m": 5, "r2plus1d_18": 4, "r2plus1d_r50": 25, "s3d": 5},
}
"""Signal to noise of the logits in integers, some decibels below what was measured with these random weights, of which little is left
after many layers; outputs of one size that have nothing to do with each other lie at -3. Where the weights of one layer of tiny3d are off
by a factor of two, 4 to 10 dB are left."""
SCALES = {"s3d": (0.8, 1.2), "r2plus1d_r50": (0.8, 1.2)}
SHIFTS = {"s3d": (2.0, 3.0), "r2plus1d_r50": (2.0, 3.0)}
"""Scales and shifts of normalisations under which the deepest networks of convolutions keep a signal in integers; with those of all others
1 dB and less is left."""
QUICK = {"tiny3d"}
"""Which `make test` runs too; test_detector_recipe.py counts those of a net of two dimensions there."""


def check_float_xml(name: str, source: ClassifierSource, path: Path, compared: Samples) -> None:
    """OpenVINO's file in float says what the network says, or is refused with the operation that it does not convert."""
    if name in REFUSED_BY_OPENVINO:
        check_refused(name, lambda: export(source, path, compared), path)
        return
    written = export(source, path, compared, tolerance=1e-3)
    assert written.parity.scale > 1e-3
    with torch.inference_mode():
        wanted = torch.cat([source.saved.model(torch.from_numpy(clip[None])).logits for clip in compared.values]).numpy()
    found = open_exported_classifier(path, device="cpu").raw(compared.values)["logits"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def check_refused(name: str, write: Callable[[], object], path: Path) -> None:
    with pytest.raises(ConfigError, match="OpenVINO refuses the network") as text:
        write()
    assert text.value.lines["operations"] == REFUSED_BY_OPENVINO[name]
    assert not path.exists()


@pytest.mark.timeout(1200)  # of mvit_v2_s on one core
@pytest.mark.parametrize("name", quick_first(BACKBONES, QUICK))
def test_a_backbone_in_float_and_in_integers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    frames, crop = SIZES.get(name, (8, 64))
    data = load_config(settings={"data": {"window": {"frames": frames}, "transform": {"short_side": crop, "crop": crop}}}).data
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(backbone=name), 3, "rgb")
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, frames, crop, crop), dtype=np.uint8)
    # with statistics of these clips, so that nothing vanishes on the way
    lively(model, torch.from_numpy(clips), scales=SCALES.get(name, (0.5, 1.5)), shifts=SHIFTS.get(name, (-0.5, 0.5)))
    saved = SavedClassifier(model=model.eval(), classes=("a", "b", "c"), view="rgb", run={})
    compared, source = Samples(values=clips, source="noise"), ClassifierSource(saved, data, "runs/a")
    whole = export(source, tmp_path / "net.onnx", compared, tolerance=1e-3)  # of random weights, whose rounding grows
    assert source.open_batch == (name not in BOUND_TO_ITS_BATCH)
    assert whole.parity.scale > 1e-3, "the network says something"
    check_float_xml(name, source, tmp_path / "net.xml", compared)
    integers = Integers(config=QuantiseConfig(), feeds=[{"clip": clip[None]} for clip in clips], source="noise")
    if name in TOO_LARGE_FOR_INTEGERS:  # never found out by taking the memory
        memory = SimpleNamespace(available=TOO_LARGE_FOR_INTEGERS[name] * 2**30)
        monkeypatch.setattr(quantise_module.psutil, "virtual_memory", lambda: memory)
        with pytest.raises(ConfigError, match="the activations of one sample do not fit into memory"):
            export(source, tmp_path / "net8.onnx", compared, integers=integers)
        return
    made = export(source, tmp_path / "net8.onnx", compared, integers=integers)
    assert made.quantised is not None
    assert made.quantised.convolutions == CONVOLUTIONS[name]
    assert not made.quantised.left
    assert made.bytes < 0.4 * whole.bytes
    with torch.inference_mode():
        wanted = saved.model(torch.from_numpy(clips)).logits.numpy()
    found = open_exported_classifier(made.path, device="cpu").raw(clips)["logits"]
    assert signal_to_noise_db([wanted], [found]) > LEAST_SIGNAL_DB[name]
    path = tmp_path / "net8.xml"
    if name in REFUSED_BY_OPENVINO:
        check_refused(name, lambda: export(source, path, compared, integers=integers), path)
        return
    written = export(source, path, compared, integers=integers)
    assert run_in_integers(path)[:2] == (CONVOLUTIONS[name], CONVOLUTIONS[name]), "all of them, as OpenVINO runs the file"
    assert written.parity.signal_db > LEAST_SIGNAL_DB[name]
