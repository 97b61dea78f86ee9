import logging
import pickle
from pathlib import Path

import pytest
import torch
from quick_backbones import calibrated, quick_first
from safetensors.torch import save_file
from torch import nn

from vidkd.base.errors import CheckpointError
from vidkd.models import BACKBONES, AttentionConfig, ModelConfig, VideoClassifier, build_backbone
from vidkd.models.saved import classifier_payload
from vidkd.models.weights import PRETRAINED, provenance, read_weights

SOFT = AttentionConfig(pooling="soft")


def rgb_clip(frames: int = 8, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def saved(state: object, path: Path) -> str:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", quick_first(sorted(BACKBONES)))
def test_a_saved_classifier_comes_back_whole(name: str, tmp_path: Path) -> None:
    clip = rgb_clip(frames=16 if name == "s3d" else 4)
    original = calibrated(VideoClassifier(ModelConfig(backbone=name, attention=SOFT), 4, "rgb"), clip)
    path = saved(original.state_dict(), tmp_path / "classifier.pt")
    restored = VideoClassifier(ModelConfig(backbone=name, attention=SOFT, weights=path), 4, "rgb").eval()
    with torch.no_grad():
        first, second = original(clip), restored(clip)
    assert restored.random_parameters == ()
    assert first.logits.std() > 1e-3
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.attention["motion"], second.attention["motion"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".pyth"])
@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model_state", "module."])
def test_kinds_of_files(suffix: str, wrap: str, tmp_path: Path) -> None:
    state = build_backbone("tiny3d").net.state_dict()
    content = {f"module.{key}": value for key, value in state.items()} if wrap == "module." else state
    if wrap in ("state_dict", "model_state"):
        if suffix == ".safetensors":
            pytest.skip("safetensors files do not nest")
        content = {wrap: content, "epoch": 3}
    loaded = VideoClassifier(ModelConfig(weights=saved(content, tmp_path / f"weights{suffix}")), 2, "rgb").backbone
    assert all(torch.equal(value, state[key]) for key, value in loaded.net.state_dict().items())


def test_published_weights_are_a_file_of_their_folder_where_it_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("vidkd.models.weights._download", lambda name: asked.append(name) or {})
    monkeypatch.setenv("VIDKD_WEIGHTS", str(tmp_path))
    assert not read_weights(PRETRAINED, "timm:resnet18")
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "resnet18.safetensors")
    assert list(read_weights(PRETRAINED, "timm:resnet18")) == ["conv1.weight"]
    monkeypatch.setenv("VIDKD_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=f"VIDKD_WEIGHTS names no folder: {tmp_path / 'none'}"):
        read_weights(PRETRAINED, "timm:resnet18")
    monkeypatch.delenv("VIDKD_WEIGHTS")
    assert not read_weights(PRETRAINED, "timm:resnet18")
    assert asked == ["timm:resnet18", "timm:resnet18"]


def test_the_averaged_student_of_a_checkpoint_is_preferred(tmp_path: Path) -> None:
    last, average = (VideoClassifier(ModelConfig(), 3, "rgb").state_dict() for _ in range(2))
    checkpoint = {"student": {"state": last, "classes": ["a", "b", "c"]}, "ema": None, "step": 7}
    plain = VideoClassifier(ModelConfig(weights=saved(checkpoint, tmp_path / "plain.pt")), 3, "rgb")
    averaged = VideoClassifier(ModelConfig(weights=saved({**checkpoint, "ema": average}, tmp_path / "ema.pt")), 3, "rgb")
    assert torch.equal(plain.fc.weight, last["fc.weight"])
    assert torch.equal(averaged.fc.weight, average["fc.weight"])


@pytest.mark.parametrize("name", quick_first(["mc3_18", "r3d_18", "r2plus1d_18", "swin3d_t"]))
def test_torchvisions_network_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    from torchvision.models import get_model

    reference = get_model(name, num_classes=7)
    calibrated(reference, torch.randn(1, 3, 8, 64, 64))
    path = saved(reference.state_dict(), tmp_path / "net.pth")
    model = VideoClassifier(ModelConfig(backbone=name, weights=path), 7, "rgb").eval()
    with torch.no_grad():
        expected = reference(model.normalise(rgb_clip()))
        torch.testing.assert_close(model(rgb_clip()).logits, expected, atol=1e-4, rtol=1e-3)
    assert expected.std() > 0.01
    assert model.random_parameters == ()


def test_a_head_of_another_size_is_dropped_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original = VideoClassifier(ModelConfig(attention=SOFT), 9, "rgb")
    path = saved(original.state_dict(), tmp_path / "nine.pt")
    with caplog.at_level(logging.INFO, "vidkd.models"):
        model = VideoClassifier(ModelConfig(attention=SOFT, weights=path), 4, "rgb")
    assert model.random_parameters == ("fc.weight", "fc.bias")
    assert "nine.pt: random weights in fc.weight, fc.bias" in caplog.text
    assert torch.equal(model.pooling.maps["motion"].conv.weight, original.pooling.maps["motion"].conv.weight)


def test_every_head_that_fits_is_filled(tmp_path: Path) -> None:
    config, targets = ModelConfig(condition_on_observed=True), {"verb": 3, "noun": 5}
    original = VideoClassifier(config, 4, "rgb", targets)
    for parameter in original.parameters():
        nn.init.normal_(parameter)
    path = saved(original.state_dict(), tmp_path / "all.pt")
    model = VideoClassifier(ModelConfig(condition_on_observed=True, weights=path), 4, "rgb", targets)
    assert model.random_parameters == ()
    assert all(torch.equal(value, original.state_dict()[key]) for key, value in model.state_dict().items())


def checkpoint(path: Path, classes: list[str], targets: dict[str, list[str]]) -> tuple[VideoClassifier, str]:
    model = VideoClassifier(ModelConfig(), len(classes), "rgb", {name: len(names) for name, names in targets.items()})
    content = {"student": classifier_payload(model, classes, targets), "run": {"data": {"split": "1"}}, "data": "a hash"}
    return model, saved(content, path)


def test_a_head_for_other_classes_of_equal_number_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    original, path = checkpoint(tmp_path / "run.pt", ["run", "walk"], {"noun": ["cup", "pan"], "verb": ["put", "take"]})
    names = {"": ["run", "jump"], "noun": ["cup", "pan"], "verb": ["take", "put"]}
    with caplog.at_level(logging.INFO, "vidkd.models"):
        model = VideoClassifier(ModelConfig(weights=path), 2, "rgb", {"noun": 2, "verb": 2}, names)
    assert set(model.random_parameters) == {f"{layer}.{part}" for layer in ("fc", "target_fc.verb") for part in ("weight", "bias")}
    assert "trained on other classes" in caplog.text
    assert torch.equal(model.target_fc["noun"].weight, original.target_fc["noun"].weight)  # type: ignore[union-attr]
    assert not torch.equal(model.fc.weight, original.fc.weight)


def test_the_provenance_of_weights_is_that_of_our_checkpoint(tmp_path: Path) -> None:
    _, path = checkpoint(tmp_path / "run.pt", ["run", "walk"], {})
    found = provenance(path)
    assert found is not None
    assert (found["data"], found["run"], found["student"]["classes"]) == ("a hash", {"data": {"split": "1"}}, ["run", "walk"])
    assert "state" not in found["student"]
    foreign = saved(VideoClassifier(ModelConfig(), 2, "rgb").state_dict(), tmp_path / "foreign.pt")
    assert [provenance(source) for source in (None, PRETRAINED, foreign, str(tmp_path / "absent.pt"))] == [None] * 4


@pytest.mark.parametrize(
    ("made_for", "loaded_into", "message"),
    [
        ("tiny3d", "r3d_18", "missing .*stem.0.weight|other shape"),
        ("r3d_18", "mc3_18", r"other shape : .*layer2.0.conv1.0.weight \(128, 64, 3, 3, 3\) for \(128, 64, 1, 3, 3\)"),
        ("r3d_18", "tiny3d", "unexpected .*layer1"),
    ],
)
def test_weights_of_another_architecture_are_refused(made_for: str, loaded_into: str, message: str, tmp_path: Path) -> None:
    path = saved(build_backbone(made_for).net.state_dict(), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=message):
        VideoClassifier(ModelConfig(backbone=loaded_into, weights=path), 2, "rgb")


def test_a_refused_file_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    from vidkd.models.weights import load_backbone

    backbone = build_backbone("tiny3d")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    state = {key: value + 1 for key, value in build_backbone("tiny3d").net.state_dict().items() if key != "stem.0.weight"}
    with pytest.raises(CheckpointError):
        load_backbone(backbone, state, "test")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    saved(build_backbone("tiny3d").net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot read"):
        read_weights(str(path), "tiny3d")


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(nn.Linear(2, 2)))
    with pytest.raises(CheckpointError, match="cannot read") as refused:
        read_weights(str(path), "tiny3d")
    assert "weights_only" not in str(refused.value), "torch's advice is to run the code"


@pytest.mark.parametrize(("content", "name", "message"), [({"epoch": 3}, "w.pt", "no parameters"), ({}, "w.pt", "no parameters")])
def test_files_without_parameters_are_refused(content: dict[str, int], name: str, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        read_weights(str(tmp_path / name), "tiny3d")


def test_a_missing_file_is_an_error_not_a_random_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights not found"):
        VideoClassifier(ModelConfig(weights=str(tmp_path / "absent.pt")), 2, "rgb")
