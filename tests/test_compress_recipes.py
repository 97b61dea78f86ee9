"""Every shipped recipe of compression is done as its first line says, in miniature: a tiny run, or a small drawn darknet and footage."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from darknet_cfgs import stacked_cfg

from vidkd.cli.main import run_verb
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.cfg import parse_cfg
from vidkd.models.darknet.net import convolution_blocks
from vidkd.models.darknet.weights import save_weights
from vidkd.video import write_video

REPOSITORY = Path(__file__).parents[1]
RECIPES = sorted((REPOSITORY / "configs" / "compress").glob("*.yaml"))
DETECTOR_RECIPES = sorted((REPOSITORY / "configs" / "compress" / "detectors").glob("*.yaml"))
QUICK = ("fastest_all", "tiny_all")
"""Recipes that `make test` does too; between them they have every step that the others have."""
SEQUENCES = ("car-roundabout", "dance-twirl", "dog", "horsejump-high", "paragliding-launch", "scooter-black")
WEIGHTS = {"yolo_fastest/yolo-fastest-1.1": "yolo_fastest/yolo-fastest-1.1", "yolov3_tiny/yolov3-tiny-m123": "yolov3_tiny/yolov3-tiny"}
"""Each cfg with its weights, below `weights`."""
CFG = stacked_cfg([(16, 4), (24, 2)], classes=2)


def drawn_detector(seed: int) -> Darknet:
    """With normalisations that tell filters apart."""
    torch.manual_seed(seed)
    net = Darknet(parse_cfg(CFG)).eval()
    for block in convolution_blocks(net):
        if (norm := block.norm) is not None:
            for part, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.2), (norm.running_var, 0.5)):
                part.data.uniform_(low, low + 1)
    return net


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes of detectors look for below --root, drawn: networks, footage, and a judged video with boxes of persons."""
    folder = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(0)
    for seed, (cfg, weights) in enumerate(WEIGHTS.items()):
        path = folder / "weights" / f"{cfg}.cfg"
        path.parent.mkdir(parents=True)
        path.write_text(CFG, encoding="utf-8")
        save_weights(drawn_detector(seed), folder / "weights" / f"{weights}.weights")
    (folder / "weights" / "yolo_fastest" / "coco.names").write_text("person\ncar\n", encoding="utf-8")
    for name in ("pets09/street.mp4", *(f"davis16/videos/{name}.mp4" for name in SEQUENCES)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, rng.integers(0, 255, (6, 48, 64, 3), np.uint8), fps=25)
    rows = [f"{frame},1,{8 + frame},10,16,24,1,-1,-1,-1" for frame in (1, 3, 5)]
    (folder / "pets09" / "gt_keyframes.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def done(recipe: Path, folder: Path, *more: object) -> list[str]:
    """Do a recipe by the command of its first line, DIR being `folder`; the files that its last step left."""
    words = recipe.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").replace("DIR", str(folder))
    program, verb, *arguments = shlex.split(words)
    assert (program, verb) == ("vidkd", "compress")
    assert run_verb("compress", [*arguments, *map(str, more)]) == 0
    (summary,) = Path(str(more[more.index("--runs") + 1])).glob("*/summary.json")
    steps = list(json.loads(summary.read_text(encoding="utf-8"))["methods"])
    return sorted(path.name for path in (summary.parent / steps[-1].partition(".")[0]).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_done_to_a_tiny_run(
    recipe: Path, tiny_teacher: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    made = done(recipe, tiny_root, "--model", tiny_teacher, "--runs", tmp_path, "--train.steps=2", "--train.device=cpu")
    assert {"model.xml", "model.bin", "model.xml.md", "outcome.json"} <= set(made)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in DETECTOR_RECIPES],
)
def test_a_shipped_recipe_is_done_to_a_drawn_detector(recipe: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    made = done(recipe, root, "--runs", tmp_path, "--train.device=cpu")
    assert {"model.onnx", "model.onnx.md", "model.xml", "model.bin", "model.xml.md", "outcome.json"} <= set(made)
