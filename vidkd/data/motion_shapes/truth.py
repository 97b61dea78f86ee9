"""Names, lists and ground truth of the data set, all computed from the config without drawing a frame."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vidkd.base.files import atomic_write, sha256
from vidkd.data.manifest import Clip, Manifest
from vidkd.data.motion_shapes.config import MotionShapesConfig
from vidkd.data.motion_shapes.scene import ClipPlace, Scene, Stage, draw_scene

SPLIT = "1"  # what the UCF101 layout calls the split of trainlist01.txt and testlist01.txt
CLASS_LIST, TRAIN_LIST, TEST_LIST = "splits/classInd.txt", "splits/trainlist01.txt", "splits/testlist01.txt"


def clip_places(config: MotionShapesConfig) -> Iterator[ClipPlace]:
    """Every clip of the data set: groups in order, training groups first; classes within a group; numbers within a class."""
    for group in range(1, config.groups_train + config.groups_test + 1):
        for label in range(len(config.classes)):
            for number in range(1, config.clips_per_group + 1):
                yield ClipPlace(group=group, label=label, number=number)


def subset_of(config: MotionShapesConfig, place: ClipPlace) -> Literal["train", "test"]:
    """The side of the split on which a clip, with its whole group, stands."""
    return "train" if place.group <= config.groups_train else "test"


def video_path(config: MotionShapesConfig, place: ClipPlace) -> str:
    """videos/<Class>/v_<Class>_g<gg>_c<cc>.mp4, relative to the data set's folder."""
    name = config.classes[place.label]
    return f"videos/{name}/v_{name}_g{place.group:02d}_c{place.number:02d}.mp4"


def write_lists(out: Path, config: MotionShapesConfig) -> None:
    """Write splits/, truth.jsonl and manifest.jsonl under `out`, each file whole or not at all."""
    _write_splits(out, config)
    scenes = [draw_scene(config, place) for place in clip_places(config)]
    write_text_lines(out / "truth.jsonl", (json_line(truth_row(config, scene)) for scene in scenes))
    sources = {name: sha256(out / name) for name in (CLASS_LIST, TRAIN_LIST, TEST_LIST)}
    manifest = Manifest(
        name=config.data_set,
        root=out,
        classes=config.classes,
        splits=(SPLIT,),
        clips=tuple(_manifest_clip(config, scene) for scene in scenes),
        horizontal_flip=False,
        sources=sources,
    )
    manifest.write(out / "manifest.jsonl")


def truth_row(config: MotionShapesConfig, scene: Scene) -> dict[str, Any]:
    """One line of truth.jsonl.

    path, label (index), class, onset_s; actor: index into shapes; shapes: [{"name", "role", "boxes": [[x1, y1, x2, y2] of every frame]}] in
    painting order, boxes in pixels, whole shapes whether hidden by a later one or not; background_velocity: [x, y] in pixels a frame.
    """
    return {
        "path": video_path(config, scene.place),
        "label": scene.place.label,
        "class": config.classes[scene.place.label],
        "onset_s": scene.onset_frame / config.fps,
        "actor": scene.actor,
        "shapes": shape_rows(scene),
        "background_velocity": [round(part, 4) for part in scene.background_velocity],
    }


def shape_rows(stage: Stage) -> list[dict[str, Any]]:
    """What truth.jsonl says of the shapes of a file, in painting order."""
    return [
        {"name": shape.kind, "role": role, "boxes": boxes.round(2).tolist()}
        for shape, role, boxes in zip(stage.shapes, stage.roles, stage.boxes, strict=True)
    ]


def actor_boxes(stage: Stage, fps: float, first: int = 0, end: int | None = None) -> tuple[tuple[float, float, float, float, float], ...]:
    """The actor's boxes as a manifest holds them, (time_s, x1, y1, x2, y2), in the frames from `first` to before `end` (default: all)."""
    corners = enumerate(stage.boxes[stage.actor, first:end].round(2).tolist(), start=first)
    return tuple((round(t / fps, 6), x1, y1, x2, y2) for t, (x1, y1, x2, y2) in corners)


def _manifest_clip(config: MotionShapesConfig, scene: Scene) -> Clip:
    place = scene.place
    return Clip(
        path=video_path(config, place),
        label=place.label,
        group=f"g{place.group:02d}",
        subsets={SPLIT: subset_of(config, place)},
        boxes=actor_boxes(scene, config.fps),
        onset_s=scene.onset_frame / config.fps,
    )


def _write_splits(out: Path, config: MotionShapesConfig) -> None:
    lines: Mapping[str, list[str]] = {"train": [], "test": []}
    for place in clip_places(config):
        name = video_path(config, place).removeprefix("videos/")
        subset = subset_of(config, place)
        lines[subset].append(f"{name} {place.label + 1}" if subset == "train" else name)
    write_text_lines(out / CLASS_LIST, (f"{number} {name}" for number, name in enumerate(config.classes, start=1)))
    write_text_lines(out / TRAIN_LIST, sorted(lines["train"]))
    write_text_lines(out / TEST_LIST, sorted(lines["test"]))


def write_text_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text atomically."""
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def json_line(row: Mapping[str, Any]) -> str:
    """A row as JSON without its newline; NaN is refused (ValueError)."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
