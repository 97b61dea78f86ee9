"""Kept activations of frozen networks: what a run learns from them is what it would learn from the clips."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_states import full_disk

from vidkd.base.errors import ConfigError, DataError, WriteError
from vidkd.data import features
from vidkd.data.features import FeatureStore
from vidkd.data.flow_store import stored_flow_files
from vidkd.data.loaders import training_loader
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.features import frozen_networks, keep_features
from vidkd.engine.fit import ClipTrainingRun, fit
from vidkd.engine.loop import InterruptedRunError
from vidkd.models import ModelConfig, VideoClassifier, build_backbone, timm_nets
from vidkd.models.fake_integers import compute_in_fake_integers
from vidkd.models.kept import KeptClassifier
from vidkd.models.saved import load_classifier
from vidkd.tasks import TASKS

in_a_row = timm_nets._in_a_row
Config = Callable[..., RunConfig]
FROZEN = [
    ("all", "mean", "supervised"),
    ("all", "mean", "mars"),
    ("all", "mean", "attention_transfer"),
    ("stage2", "mean", "supervised"),
    ("all", "probabilistic", "attention_distillation"),
    ("all", "soft", "motion_attention"),
]


def first_batch(run: ClipTrainingRun) -> dict:
    return next(iter(training_loader(run.dataset, [[(0, 1), (0, 2), (1, 1)]], 0)))


@pytest.mark.parametrize(("freeze", "pooling", "task"), FROZEN)
def test_a_step_from_kept_maps_is_the_step_from_clips(
    freeze: str, pooling: str, task: str, tiny_config: Config, tiny_teacher: Path, tmp_path: Path
) -> None:
    over = {"teacher": str(tiny_teacher)} if TASKS[task].needs_teacher else {}
    config = tiny_config(
        **{"task": task, "model.freeze": freeze, "model.attention.pooling": pooling, "model.dropout": 0.0, "data.features.views": 2},
        **{"data.features.folder": str(tmp_path / "features")},
        **over,
    )
    clips = read_clips_of_run(config)
    run = ClipTrainingRun(config, clips)
    run.task.train()
    keep_features(run.dataset, frozen_networks(run.task), epochs=2)
    kept = first_batch(run)
    assert run.dataset.views == ()
    assert run.dataset.features is not None
    run.dataset.features.filled = False
    run.dataset.views = run.task.views
    decoded = first_batch(run)
    torch.manual_seed(0)
    from_kept = run.task(kept)
    torch.manual_seed(0)
    from_clips = run.task(decoded)
    for name, loss in from_clips.items():
        torch.testing.assert_close(from_kept[name], loss, atol=2e-3, rtol=2e-3)
    from_kept["loss"].backward()
    assert all(parameter.grad is not None for parameter in run.task.student.parameters() if parameter.requires_grad)


def test_one_network_of_two_parts_of_a_clip_has_the_maps_of_both(tiny_config: Config, tmp_path: Path) -> None:
    """Student and teacher are the same frozen network, and only the teacher sees the whole clip."""
    frozen = {"model.freeze": "all", "data.window": {"frames": 4, "rule": "uniform"}}
    teacher = str(fit(tiny_config(**frozen, name="teacher"), quiet=True).folder)
    config = tiny_config(
        **{**frozen, "task": "anticipation", "teacher": teacher, "init": teacher, "method.feature": "none", "method.logits_weight": 1.0},
        **{"data.observe": {"protocol": "early", "fractions": [0.5]}, "data.features.views": 2},
        **{"data.features.folder": str(tmp_path / "features")},
    )
    run = ClipTrainingRun(config, read_clips_of_run(config))
    keep_features(run.dataset, frozen_networks(run.task), epochs=2)
    kept = first_batch(run)
    assert run.dataset.features is not None
    run.dataset.features.filled, run.dataset.views = False, run.task.views
    decoded = first_batch(run)
    for entry, view, network in (("rgb", "rgb", run.task.kept_student), ("teacher", "future_rgb", run.task.kept_teachers["teacher"][1])):
        assert network is not None
        for stage, maps in network.kept_maps(decoded[view]).items():
            torch.testing.assert_close(kept[entry][stage].float(), maps, atol=2e-3, rtol=2e-3)


def test_of_two_teachers_the_activations_of_both_are_kept(tiny_config: Config, tiny_teacher: Path, tmp_path: Path) -> None:
    """The student is not frozen, so that its own view is decoded, and the flow no more."""
    rgb = fit(tiny_config(name="rgb")).folder
    config = tiny_config(
        **{"task": "logits_kd", "teacher": str(tiny_teacher), "more_teachers": [str(rgb)], "model.dropout": 0.0},
        **{"data.features.views": 2, "data.features.folder": str(tmp_path / "features")},
    )
    run = ClipTrainingRun(config, read_clips_of_run(config))
    assert run.task.views == ("rgb", "flow")
    networks = frozen_networks(run.task)
    assert {entry: view for entry, (view, _) in networks.items()} == {"teacher": "flow", "teacher1": "rgb"}
    keep_features(run.dataset, networks, seen="rgb", epochs=2)
    kept = first_batch(run)
    assert run.dataset.views == ("rgb",)
    assert "flow" not in kept
    assert run.dataset.features is not None
    run.dataset.features.filled = False
    run.dataset.views = run.task.views
    torch.testing.assert_close(run.task(kept)["soft"], run.task(first_batch(run))["soft"], atol=2e-3, rtol=2e-3)


def test_a_run_from_kept_maps_trains_and_decodes_nothing_twice(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidkd.data import dataset

    reads: list[Path] = []
    read = dataset.read_seen

    def counted(path: Path, *given: object, **named: object) -> object:
        reads.append(path)
        return read(path, *given, **named)

    monkeypatch.setattr(dataset, "read_seen", counted)
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features"), "train.steps": 6}
    first = fit(tiny_config(**over))
    once = len(reads)
    assert once == len(read_clips_of_run(tiny_config(**over)).train)
    second = fit(tiny_config(**over, name="second"))
    assert len(reads) == once
    states = [load_classifier(result.folder).model.state_dict() for result in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_other_weights_have_other_maps(tiny_config: Config, tmp_path: Path) -> None:
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features")}
    files = []
    for seed in (0, 1):
        run = ClipTrainingRun(config := tiny_config(**over, **{"train.seed": seed}), read_clips_of_run(config))
        keep_features(run.dataset, frozen_networks(run.task))
        files.append(run.dataset.feature_file("rgb", (0, 0)))
    assert files[0] != files[1]
    assert all(file.is_file() for file in files)


def test_maps_beyond_the_bound_are_an_error(tiny_config: Config, tmp_path: Path) -> None:
    over = {
        "model.freeze": "all",
        "data.features.views": 1,
        "data.features.folder": str(tmp_path / "features"),
        "data.features.max_gb": 1e-6,
    }
    with pytest.raises(DataError, match="max_gb"):
        fit(tiny_config(**over))


def test_of_a_frozen_network_that_is_averaged_the_averages_are_kept(tiny_config: Config, tiny_teacher: Path) -> None:
    def shapes(**over: str) -> list[torch.Size]:
        run = ClipTrainingRun(config := tiny_config(**{"model.freeze": "all", **over}), read_clips_of_run(config))
        kept = run.task.kept_student
        assert kept is not None
        return [maps.shape[3:] for maps in kept.kept_maps(torch.rand(1, 3, 4, 64, 64)).values()]

    mean = {"model.attention.pooling": "mean"}
    assert shapes(**mean) == [(1, 1)]
    assert shapes(**mean, task="mars", teacher=str(tiny_teacher)) == [(1, 1)]
    for others in ({"model.attention.pooling": "soft"}, {**mean, "task": "attention_transfer", "teacher": str(tiny_teacher)}):
        assert len(found := shapes(**others)) == 2
        assert (1, 1) not in found


def test_what_trains_later_does_not_decide_what_is_kept(tiny_config: Config) -> None:
    config = tiny_config(**{"model.freeze": "stage2"})
    student = ClipTrainingRun(config, read_clips_of_run(config)).task.student
    before = KeptClassifier(student).kept_identity()
    parameters = dict(student.backbone.named_parameters())
    for parameter in parameters.values():
        parameter.data += parameter.requires_grad
    for name, buffer in student.backbone.named_buffers():
        trained = parameters.get(f"{name.rpartition('.')[0]}.weight")
        buffer += trained is not None and trained.requires_grad
    assert KeptClassifier(student).kept_identity() == before
    next(parameter for parameter in parameters.values() if not parameter.requires_grad).data += 1
    assert KeptClassifier(student).kept_identity() != before


def test_a_network_in_fake_integers_has_other_maps(tiny_config: Config) -> None:
    student = ClipTrainingRun(config := tiny_config(**{"model.freeze": "all"}), read_clips_of_run(config)).task.student
    before = KeptClassifier(student).kept_identity()
    compute_in_fake_integers(student)
    assert KeptClassifier(student).kept_identity() != before


OTHERS = [
    {"data.transform.crop": 48},
    {"data.window.frames": 6},
    {"data.split_seed": 5},
    {"model.backbone": "timm:resnet10t"},
    {"view": "flow"},
    {"view": "flow", "model.flow_bound_px": 3.0},
    {"view": "flow", "data.flow.preset": "fast"},
]


def test_other_networks_sizes_and_windows_have_other_files(tiny_config: Config, tmp_path: Path) -> None:
    files = set()
    for over in ({}, *OTHERS):
        settings = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path), "data.transform.short_side": 64}
        run = ClipTrainingRun(config := tiny_config(**{**settings, **over}), read_clips_of_run(config))
        network = run.task.kept_student
        assert network is not None
        run.dataset.features = FeatureStore(config.data.features, {"student": network.kept_identity()})
        files.add(run.dataset.feature_file("student", (0, 0)))
    assert len(files) == 1 + len(OTHERS)


def test_flow_that_is_stored_anew_has_other_files(tiny_config: Config, tmp_path: Path) -> None:
    stored = {"view": "flow", "data.flow.source": "stored", "data.flow.folder": str(tmp_path / "flow")}
    run = ClipTrainingRun(config := tiny_config(**{"model.freeze": "all", "data.features.views": 1, **stored}), read_clips_of_run(config))
    run.dataset.features = FeatureStore(config.data.features, {"flow": "a network"})
    before = run.dataset.feature_file("flow", (0, 0))
    assert run.dataset.feature_file("flow", (0, 0)) == before
    for file in stored_flow_files(str(tmp_path / "flow"), run.dataset.clips[0].path):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(b"again")
    assert run.dataset.feature_file("flow", (0, 0)) != before


def test_a_full_disk_stops_a_run_that_can_be_started_again(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "features"
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(folder), "train.steps": 2}
    save, written = features.np.savez, []

    def fills_up(file: object, **arrays: object) -> None:
        full_disk() if len(written) == 2 else save(file, **arrays)  # type: ignore[arg-type]
        written.append(file)

    with monkeypatch.context() as patch:
        patch.setattr(features.np, "savez", fills_up)
        with pytest.raises(WriteError, match="No space left on device"):
            fit(tiny_config(**over))
    assert all(file.suffix == ".npz" for file in folder.rglob("*") if file.is_file())  # no half a file
    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}
    assert len(kept) == 2
    fit(tiny_config(**over))
    assert kept.items() <= {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}.items()


def test_ctrl_c_ends_the_computing_of_activations_at_once_and_keeps_them(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features"
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(folder), "train.steps": 2}
    save = features.np.savez

    def interrupted(file: object, **arrays: object) -> None:
        save(file, **arrays)  # type: ignore[arg-type]
        if len([*folder.rglob("*.npz")]) == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(features.np, "savez", interrupted)
        with pytest.raises(InterruptedRunError, match="stopped before the first batch; activations that were computed are kept"):
            fit(tiny_config(**over))
    assert len([*folder.rglob("*.npz")]) == 2
    assert fit(tiny_config(**over)).steps == 2


def test_files_that_vanish_while_a_run_reads_them_are_told(tiny_config: Config, tmp_path: Path) -> None:
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features")}
    run = ClipTrainingRun(config := tiny_config(**over), read_clips_of_run(config))
    keep_features(run.dataset, frozen_networks(run.task))
    run.dataset.feature_file("rgb", (0, 1)).unlink()
    torn = run.dataset.feature_file("rgb", (0, 2))
    torn.write_bytes(torn.read_bytes()[:100])
    assert "removed or damaged" in run.dataset[0, 1]["bad"]
    assert "removed or damaged" in run.dataset[0, 2]["bad"]
    assert "bad" not in run.dataset[0, 3]


def test_clips_that_cannot_be_read_keep_nothing_and_say_why(tiny_config: Config, tmp_path: Path) -> None:
    """A missing video and a missing flow file are bad clips, as without kept activations."""
    over = {"model.freeze": "all", "data.features.views": 1, "data.features.folder": str(tmp_path / "features"), "view": "flow"}
    flow = {"data.flow.source": "stored", "data.flow.folder": str(tmp_path / "flow")}
    run = ClipTrainingRun(config := tiny_config(**over, **flow), read_clips_of_run(config))
    keep_features(run.dataset, frozen_networks(run.task))
    assert not list((tmp_path / "features").rglob("*.npz"))
    assert "flow" in run.dataset[0, 0]["bad"]
    assert "removed or damaged" not in run.dataset[0, 0]["bad"]
    run = ClipTrainingRun(config := tiny_config(**over), read_clips_of_run(config))
    run.dataset.clips[0] = dataclasses.replace(run.dataset.clips[0], path="gone.mp4")
    keep_features(run.dataset, frozen_networks(run.task))
    assert "no such video" in run.dataset[0, 0]["bad"]
    assert "bad" not in run.dataset[0, 1]


@pytest.mark.parametrize(("freeze", "shift"), [("all", "none"), ("layer2", "none"), ("layer2", "both")])
def test_a_network_of_timm_trains_in_bfloat16_from_what_is_kept(freeze: str, shift: str, tiny_config: Config, tmp_path: Path) -> None:
    over = {"model.backbone": "timm:resnet10t", "model.freeze": freeze, "model.temporal.shift": shift, "data.features.views": 1}
    precise = {"data.features.folder": str(tmp_path / "features"), "train.steps": 2, "train.precision": "bf16-mixed"}
    result = fit(tiny_config(**over, **precise))
    state = load_classifier(result.folder).model.state_dict()
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


@pytest.mark.parametrize("backbone", ["timm:vit_tiny_patch16_224", "r3d_18", "timm:resnet10t"])
def test_a_network_that_cannot_be_entered_says_so_before_training(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_nets, "_in_a_row", lambda net: [*in_a_row(net), ("more", torch.nn.Tanh())])  # as if more came in another order
    stage = build_backbone(backbone).stages[1]
    kept = KeptClassifier(VideoClassifier(ModelConfig(backbone=backbone, freeze=stage), 3, "rgb"))
    with pytest.raises(ConfigError, match=f"cannot be entered after its stage {stage}"), torch.no_grad():
        kept.kept_maps(torch.rand(1, 3, 2, 224, 224))
