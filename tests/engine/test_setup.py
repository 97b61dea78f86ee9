"""From a configuration to the parts of a run: clips, teacher, optimiser groups and schedule."""

import math
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from started import run_to_end

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.engine.clips import Clips, read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.devices import keep_freed_memory, pick_device, processes, start_fabric
from vidkd.engine.fit import fit
from vidkd.engine.loop_config import OptimConfig, TrainConfig, check_validation
from vidkd.engine.optimiser import build_optimizer, build_schedule
from vidkd.engine.setup import build_run_task, total_steps
from vidkd.models.saved import load_classifier, read_checkpoint
from vidkd.tasks import Task

Config = Callable[..., RunConfig]
CLASSES = ("Right", "Down", "Grow")


def groups_of(clips: Clips) -> tuple[set[str], set[str]]:
    return {clip.group for clip in clips.train}, {clip.group for clip in clips.val}


def test_held_out_groups_and_label_fraction_stay_inside_the_training_clips(tiny_config: Config) -> None:
    data = {"data.validation_fraction": 0.25, "data.label_fraction": 0.4}
    clips = read_clips(tiny_config(**data).data)
    train, val = groups_of(clips)
    assert len(train) == 2  # of three, the smallest share that is not below 0.4
    assert len(val) == 1
    assert (train | val) <= {"g0", "g1", "g2", "g3"}
    assert not train & val
    assert {clip.group for clip in clips.subset("test", "1")} == {"g4", "g5"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.patience": 3, "data.validation_fraction": 0.25}, r"train\.patience=3 never stops a run without validations"),
        ({"train.patience": 3, "train.eval_every": 0.5}, r"train\.eval_every=0\.5, but there are no `val` clips"),
    ],
)
def test_validations_that_cannot_happen_are_refused(settings: dict[str, Any], message: str, tiny_config: Config) -> None:
    config = tiny_config(**settings)
    with pytest.raises(ConfigError, match=message):
        check_validation(config.train, validates=bool(read_clips(config.data).val), samples="clips")
    with pytest.raises(ConfigError, match=message):
        fit(config, quiet=True)
    assert not Path(config.runs).exists()


@pytest.mark.parametrize(
    ("clips", "batch", "accumulate", "epochs", "expected"), [(100, 8, 1, 3, 38), (100, 8, 2, 3, 19), (3, 8, 1, 0.1, 1)]
)
def test_steps_of_a_run(clips: int, batch: int, accumulate: int, epochs: float, expected: int, tiny_config: Config) -> None:
    config = tiny_config(**{"train.steps": None, "train.epochs": epochs, "data.batch_size": batch, "optim.accumulate": accumulate})
    assert total_steps(config, clips) == expected


@pytest.fixture
def task(tiny_config: Config) -> Task:
    return build_run_task(tiny_config(), CLASSES)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_norms_and_biases_are_not_decayed_and_the_head_learns_faster(optimiser: Any, task: Task) -> None:
    config = OptimConfig(optimiser=optimiser, lr=0.1, head_lr_factor=10, weight_decay=0.3)
    optimizer = build_optimizer(task, config)
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    names = {
        "student.backbone.net.stem.0.weight": (0.1, 0.3),
        "student.backbone.net.stem.1.weight": (0.1, 0.0),
        "student.backbone.net.stem.1.bias": (0.1, 0.0),
        "student.pooling.maps.motion.conv.weight": (1.0, 0.3),
        "student.fc.weight": (1.0, 0.3),
        "student.fc.bias": (1.0, 0.0),
    }
    parameters = dict(task.named_parameters())
    assert {name: settings[id(parameters[name])] for name in names} == {name: pytest.approx(pair) for name, pair in names.items()}
    assert len(settings) == len(parameters) == sum(len(group["params"]) for group in optimizer.param_groups)


DECAYED = [
    ("tiny3d", None, {"net.stem": 0.5**4, "net.stage2": 0.5**3, "net.stage4": 0.5}),
    ("timm:resnet10t", None, {"net.conv1": 0.5**5, "net.layer1": 0.5**4, "net.layer4": 0.5}),
    ("timm:tf_efficientnet_lite0", "blocks_2", {"net.blocks.3": 0.5**2, "net.blocks.4": 0.5**2, "net.blocks.5": 0.5, "net.conv_head": 0.5}),
    ("timm:vit_tiny_patch16_224", None, {"net.cls_token": 0.5**12, "net.blocks.0": 0.5**12, "net.blocks.11": 0.5, "net.norm": 0.5}),
    ("r3d_18", "all", {}),
]


@pytest.mark.parametrize(("backbone", "freeze", "expected"), DECAYED)
def test_earlier_stages_learn_slower(backbone: str, freeze: str | None, expected: dict[str, float], tiny_config: Config) -> None:
    task = build_run_task(tiny_config(**{"model.backbone": backbone, "model.freeze": freeze, "model.attention.pooling": "mean"}), CLASSES)
    optimizer = build_optimizer(task, OptimConfig(lr=2.0, head_lr_factor=3, layer_decay=0.5))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    trained = {name: p for name, p in task.student.named_parameters() if p.requires_grad}
    assert rates.keys() == {id(p) for p in trained.values()}
    for prefix, factor in expected.items():
        found = {rates[id(p)] for name, p in trained.items() if f"{name}.".startswith(f"backbone.{prefix}.")}
        assert found == {2.0 * factor}, prefix
    assert rates[id(task.student.fc.weight)] == 6.0
    assert {name.split(".")[0] for name in trained} == ({"fc"} if freeze == "all" else {"backbone", "fc"})


def test_warm_up_is_linear_and_a_cosine_to_zero_follows(task: Task) -> None:
    config = OptimConfig(lr=2.0, warmup=0.2, optimiser="sgd")
    optimizer = build_optimizer(task, config)
    schedule = build_schedule(optimizer, config, 10)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [2 / 3, 4 / 3, *(1 + math.cos(math.pi * step / 8) for step in range(9))]
    assert rates == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


# --- teachers that do not fit ---


def test_a_teacher_that_is_not_finished_is_told_with_its_step(
    tiny_config: Config, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(tiny_teacher, tmp_path / "half"))
    build_run_task(tiny_config(task="mars", teacher=str(folder)), CLASSES)
    assert "not finished" not in caplog.text
    last = folder / "checkpoints" / "last.pt"
    content = read_checkpoint(last)
    content["progress"].update(finished=False, step=4)
    torch.save(content, last)
    build_run_task(tiny_config(task="mars", teacher=str(folder)), CLASSES)
    assert f"{folder} is not finished: its last checkpoint is from step 4" in caplog.text


@pytest.mark.parametrize("classes", [("Right", "Down"), ("Right", "Down", "Grow", "Left"), ("Down", "Right", "Grow")])
def test_a_teacher_of_other_classes_is_refused(classes: tuple[str, ...], tiny_config: Config, tiny_teacher: Path) -> None:
    with pytest.raises(CheckpointError, match="was trained on other classes") as caught:
        build_run_task(tiny_config(task="mars", teacher=str(tiny_teacher)), classes)
    assert caught.value.lines["teacher"].startswith("3: Right, Down, Grow")


def test_what_is_no_checkpoint_of_ours_is_refused(tmp_path: Path, tiny_config: Config) -> None:
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of vidkd"):
        load_classifier(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_classifier(tmp_path / "text.pt")


def test_a_checkpoint_that_builds_objects_is_refused_and_runs_no_code(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"student": Attack()}, tmp_path / "attack.pt")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_classifier(tmp_path / "attack.pt")
    assert not (tmp_path / "ran").exists()


def test_init_gives_the_initial_weights_and_must_be_the_same_network(tiny_config: Config, tiny_teacher: Path) -> None:
    saved = load_classifier(tiny_teacher).model.state_dict()
    task = build_run_task(tiny_config(view="flow", init=str(tiny_teacher)), CLASSES)
    assert all(torch.equal(value, saved[name]) for name, value in task.student.state_dict().items())
    with pytest.raises(CheckpointError, match="is another network than `model`"):
        build_run_task(tiny_config(view="rgb", init=str(tiny_teacher)), CLASSES)


@pytest.mark.parametrize("key", ["model.weights", "init"])
def test_a_student_does_not_begin_with_weights_that_learned_from_what_judges_it(key: str, tiny_config: Config, tiny_teacher: Path) -> None:
    beginning = {"view": "flow", key: str(tiny_teacher / "checkpoints" / "last.pt")}
    config = tiny_config(**beginning, **{"data.validation_fraction": 0.25})
    clips = read_clips(config.data)
    build_run_task(config, CLASSES, clips=clips)
    config = tiny_config(**beginning, **{"data.validation_fraction": 0.5})
    with pytest.raises(CheckpointError, match=f"{key} .* learned from [0-9]* of the [0-9]* clips to evaluate on"):
        build_run_task(config, CLASSES, clips=read_clips(config.data))


def test_the_seed_alone_decides_the_initial_weights(tiny_config: Config) -> None:
    torch.manual_seed(99)
    first = build_run_task(tiny_config(), CLASSES).student.state_dict()
    again = build_run_task(tiny_config(), CLASSES).student.state_dict()
    other = build_run_task(tiny_config(**{"train.seed": 1}), CLASSES).student.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


# --- devices ---


def test_a_device_that_is_not_there_is_an_error(tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"cannot use device 'abacus'\n") as error:
        start_fabric(TrainConfig(device="abacus"), batch_size=2)
    assert error.value.lines["fix"] == "--train.device auto or cpu"
    with pytest.raises(ConfigError, match="cannot use device 'abacus'") as error:
        pick_device("abacus")
    assert error.value.lines == {"reason": "no device has this name; known: auto, cpu, cuda, mps", "fix": "--device auto or cpu"}


def test_processes_are_those_that_a_launcher_started(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(**{"train.devices": 2})
    assert processes(config.train) == (2, 1)
    with monkeypatch.context() as slurm:
        for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "4", "SLURM_JOB_NAME": "train"}.items():
            slurm.setenv(name, value)
        assert processes(config.train) == (2, 4)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert processes(config.train) == (4, 3)


PAGES_OF_A_STEP = 32 * 2**20 // 4096
COUNT_FAULTS = """
import json, resource, sys
import torch
from vidkd.engine.devices import keep_freed_memory

def step():
    for _ in range(2):
        torch.ones(8 * 2**20)  # 32 MiB of float32, written and freed

kept = keep_freed_memory(json.loads(sys.argv[1]))
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow  # a process that imports torch
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_takes_no_new_pages() -> None:
    words = run_to_end([sys.executable, "-c", COUNT_FAULTS, "{}"], check=True).stdout.split()
    assert words[0] == "True"
    assert int(words[1]) < PAGES_OF_A_STEP / 4, "ten steps of two tensors, and not the pages of a quarter of one tensor"


def test_the_user_s_own_settings_of_the_allocator_stay() -> None:
    assert not keep_freed_memory({"MALLOC_TRIM_THRESHOLD_": "131072"})
