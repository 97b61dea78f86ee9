"""Configurations: strict, typed, read safely, and the same after a round trip."""

import re
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.settings import place_of, to_yaml
from vidkd.engine.config import load_config
from vidkd.tasks import TASKS
from vidkd.tasks.task import SolvedTask


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path: Path | None = None, *, overrides: tuple[str, ...] = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides=overrides)
    return caught.value


def test_an_unknown_key_is_named_with_line_and_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path, "data:\n  split: '2'\ntrain:\n  seed: 3\n  stpes: 10\n")
    error = error_of(path)
    assert error.what == "unknown setting 'train.stpes'"
    assert error.lines == {"where": f"{path}:5", "did you mean": "train.steps"}


def test_a_setting_of_another_task_is_refused_with_the_tasks_that_have_it(tmp_path: Path) -> None:
    path = write(tmp_path, "task: supervised\nmethod:\n  feature: gram\n")
    error = error_of(path)
    assert error.what == "method.feature belongs to task anticipation, not supervised"
    assert error.lines == {"where": f"{path}:3", "fix": "remove it, or task: anticipation"}
    error = error_of(overrides=("--task", "mars", "--method.temperature=4"))
    owners = sorted(name for name, task in TASKS.items() if "temperature" in task.Config.__dataclass_fields__)
    assert error.what == f"method.temperature belongs to tasks {', '.join(owners)}, not mars"
    assert error.lines == {"where": "--method.temperature on the command line", "fix": f"remove it, or --task {owners[0]}"}
    assert error_of(overrides=("--method.nothing", "4")).what == "unknown setting '--method.nothing'"


@pytest.mark.parametrize(
    ("text", "key", "line", "expected"),
    [
        ("train:\n  steps: three\n", "train.steps", 2, "a whole number from 1 on, or null"),
        ("view: rbg\n", "view", 1, "one of rgb, flow"),
        ("model:\n  dropout: 1.0\n", "model.dropout", 2, "a number from 0 on below 1"),
        ("model:\n  flow_bound_px: 0\n", "model.flow_bound_px", 2, "a number above 0"),
        ("model:\n  attention: {temperature: 0.0}\n", "model.attention.temperature", 2, "a number above 0, or null"),
        ("data:\n  transform:\n    crop: 12.5\n", "data.transform.crop", 3, "a whole number"),
        ("data:\n  window: {rule: sparse}\n", "data.window.rule", 2, "one of dense, uniform"),
        ("task: d3d\nmethod:\n  weight: heavy\n", "method.weight", 3, "a number"),
        ("task: anticipation\nmethod: {radius: [1, 1]}\n", "method.radius", 2, "a list of 3 whole numbers, or null"),
        ("data:\n  observe:\n    fractions: some\n", "data.observe.fractions", 3, "a list of numbers"),
    ],
)
def test_a_wrong_value_is_named_with_line_and_what_was_expected(tmp_path: Path, text: str, key: str, line: int, expected: str) -> None:
    path = write(tmp_path, text)
    error = error_of(path)
    assert error.what == f"'{key}' has a wrong value"
    assert error.lines["where"] == f"{path}:{line}"
    assert error.lines["expected"] == expected
    assert error.lines["found"] in text


def test_one_value_of_a_list_is_a_list_as_a_flag(tmp_path: Path) -> None:
    assert load_config(overrides=("--data.observe.fractions", "0.5")).data.observe.fractions == (0.5,)
    assert load_config(overrides=("--data.observe.fractions", "0.2,0.5")).data.observe.fractions == (0.2, 0.5)
    assert error_of(write(tmp_path, "data: {observe: {fractions: 0.5}}")).lines["fix"] == "data.observe.fractions: [0.5]"


def test_a_file_holds_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "task: mars\nmethod: {label_smoothing: 0.1}\ntrain: {steps: 3, seed: 4}\n")
    path = write(tmp_path / "sub", "base: ../config.yaml\ntrain: {seed: 5}\n")
    config = load_config(path)
    assert (config.task, config.method.label_smoothing, config.train.steps, config.train.seed) == ("mars", 0.1, 3, 5)
    assert (place_of(config, "train.seed"), place_of(config, "train.steps")) == (
        f"train.seed in {path}:2",
        f"train.steps in {tmp_path / 'sub' / '..' / 'config.yaml'}:3",
    )
    other = write(tmp_path / "sub", "base: ../config.yaml\ntask: supervised\n")
    assert load_config(other).method.label_smoothing == 0
    error = error_of(write(tmp_path / "sub", "base: ../none.yaml\n"))
    assert error.lines["where"] == f"base in {other}"
    assert "leave one out" in str(error_of(write(tmp_path / "sub", "base: config.yaml\n")))


@pytest.mark.parametrize(
    "text",
    [
        "name: " + "[" * 2000 + "]" * 2000,
        "method: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"k{n}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)),
        "name: " + "x" * 2**20,
        "train: {steps: " + "1" * 5000 + "}",
    ],
    ids=["depth", "aliases", "size", "digits"],
)
def test_a_file_that_is_too_large_or_too_deep_is_refused(tmp_path: Path, text: str) -> None:
    assert re.search("the YAML is too large or too deep|cannot read", error_of(write(tmp_path, text)).what)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", 0.0),
        ("optim.accumulate", 0),
        ("optim.ema", 1.0),
        ("optim.warmup", 1.5),
        ("optim.clip_norm", -1.0),
        ("train.steps", 0),
        ("train.epochs", float("nan")),
        ("train.log_every", 0),
        ("train.devices", 0),
        ("data.batch_size", 0),
        ("data.label_fraction", 0.0),
        ("data.window.frames", 0),
        ("model.dropout", 1.0),
        ("model.attention.temperature", 0.0),
    ],
)
def test_a_value_outside_its_range_is_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(settings={"model": {"attention": {"pooling": "soft"}}, key: value})
    assert key.split(".")[-1] in caught.value.what


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  steps: 3\ntrain:\n  seed: 1\n")
    error = error_of(path)
    assert error.what == "'train' is set twice"
    assert error.lines["where"] == f"{path}:1 and {path}:3"


def test_settings_go_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {steps: 3, seed: 1}\ndata: {batch_size: 2, split: '2'}\n")
    config = load_config(path, settings={"train.steps": 4, "data": {"batch_size": 6}}, overrides=["--train.steps", "5", "--view=flow"])
    assert (config.train.steps, config.train.seed, config.data.batch_size, config.data.split, config.view) == (5, 1, 6, "2", "flow")


@pytest.mark.parametrize("task", sorted(name for name, kind in TASKS.items() if not issubclass(kind, SolvedTask)))
def test_yaml_gives_the_same_configuration_back(task: str, tmp_path: Path) -> None:
    settings = {
        "task": task,
        "name": "größe 'x' \"y\"",
        "method.label_smoothing": 0.1,
        "optim.lr": 1e-5,
        "train.steps": 7,
        "data.decode_short_side": None,
        "data.window.flow_step": 2,
        "model.attention": {"pooling": "probabilistic", "maps": "two"},
    }
    config = load_config(settings=settings)
    assert type(config.method) is TASKS[task].Config
    assert config.method.label_smoothing == 0.1
    assert config.data.decode_short_side is None
    assert load_config(write(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize(
    "attack",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]",
        "!!python/name:os.system",
        "{{class_path: os.system, init_args: {{command: 'touch {mark}'}}}}",
    ],
)
@pytest.mark.parametrize("key", ["train", "method", "name"])
def test_an_untrusted_file_runs_no_code(tmp_path: Path, attack: str, key: str) -> None:
    mark = tmp_path / "ran"
    error_of(write(tmp_path, f"{key}: {attack.format(mark=mark)}\n"))
    assert not mark.exists()


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "")
    error = error_of(tmp_path / "confg.yaml")
    assert error.what == f"config not found: {tmp_path / 'confg.yaml'}"
    assert error.lines == {"did you mean": str(tmp_path / "config.yaml")}
    (tmp_path / "motion_shapes.yaml").touch()
    assert error_of(tmp_path / "nope.yaml").lines == {"found": f"in {tmp_path}: config.yaml, motion_shapes.yaml"}
    assert error_of(tmp_path / "none" / "x.yaml").lines == {"found": f"the folder {tmp_path}/none is missing"}
    (tmp_path / "empty").mkdir()
    assert error_of(tmp_path / "empty" / "x.yaml").lines == {"found": f"in {tmp_path}/empty: no .yaml file"}


def test_the_method_of_a_file_is_left_out_with_another_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: mars\nmethod: {weight: 7}\n")
    assert load_config(path).method.weight == 7
    assert load_config(path, settings={"task": "mars"}).method.weight == 7
    assert load_config(path, settings={"task": "supervised"}).method == TASKS["supervised"].Config()
    assert load_config(path, settings={"task": "d3d", "method.weight": 2.0}).method.weight == 2.0


def test_a_task_on_the_command_line_leaves_out_what_belongs_to_that_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    text = (
        "task: anticipation\nteacher: runs/t\nteacher_settings: {view: flow}\nmethod: {feature: gram, logits_weight: 2}\ntrain: {seed: 3}\n"
    )
    path = write(tmp_path, text)
    config = load_config(path, overrides=["--task", "supervised", "--method.prior_weight=0.5"])
    assert (config.task, config.teacher, config.teacher_settings, config.train.seed) == ("supervised", None, None, 3)
    assert config.method == TASKS["supervised"].Config(prior_weight=0.5)
    left = "method.feature, method.logits_weight, teacher, teacher_settings.view"
    assert caplog.messages == [f"--task supervised: left out of {path}, which is for task anticipation: {left}"]
    caplog.clear()
    other = load_config(path, overrides=["--task=mars"])
    assert (other.teacher, other.teacher_settings, other.method) == ("runs/t", {"view": "flow"}, TASKS["mars"].Config())
    assert caplog.messages == [f"--task mars: left out of {path}, which is for task anticipation: method.feature, method.logits_weight"]
    caplog.clear()
    assert load_config(path, overrides=["--task", "anticipation"]) == load_config(path)
    assert load_config(path, overrides=["--task", "supervised", "--teacher", "mine"]).teacher == "mine"  # refused later, as without a file
    untold = write(tmp_path, "method: {feature: position}\n")
    assert load_config(untold, overrides=["--task", "anticipation"]).method.feature == "position"
    assert len(caplog.messages) == 1
