"""cued_shapes, for anticipation: untrimmed generated videos in which a cue decides the action that follows elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip
from vidkd.data.synthetic.cued_path import CuedShapesConfig, Episode, actor_path, draw_timeline
from vidkd.data.synthetic.scene import (
    SPLIT,
    Role,
    Stage,
    actor_boxes,
    draw_background_motion,
    draw_roles,
    draw_shapes,
    render_stage,
    shape_path,
    shape_rows,
    stage_of,
    write_manifest,
)
from vidkd.data.synthetic.shapes import Array
from vidkd.data.synthetic.write import Written, random_numbers, write_data_set, write_rows


def subset_of_file(config: CuedShapesConfig, number: int) -> Literal["train", "test"]:
    """The side of the split of a file, by its number from 1: training files come first."""
    return "train" if number <= config.files_train else "test"


def is_labelled(config: CuedShapesConfig, number: int) -> bool:
    """Whether the manifest has the classes of a file: the last `unlabelled_share` of the training files are unlabelled."""
    labelled = config.files_train - round(config.unlabelled_share * config.files_train)
    return number <= labelled or subset_of_file(config, number) == "test"


def group_of(number: int) -> str:
    """The group of a file, which is a file alone."""
    return f"g{number:03d}"


def cued_video_path(number: int) -> str:
    """videos/v_g<ggg>.mp4, relative to the data set's folder."""
    return f"videos/v_{group_of(number)}.mp4"


def labels_of(config: CuedShapesConfig, number: int) -> list[int]:
    """The class of every episode of a file: uniform, and independent of the other episodes of the file.

    As many files of one side as there are classes share a draw: among their first episodes is each class once, among their second ones too.
    """
    subset, count = subset_of_file(config, number), len(config.classes)
    first = 1 if subset == "train" else config.files_train + 1
    block, column = divmod(number - first, count)
    rng = random_numbers(config.seed, "cued labels", int(subset == "test"), block)
    return [int(rng.permutation(count)[column]) for _ in range(config.episodes)]


@dataclass(frozen=True, kw_only=True)
class CuedScene(Stage):
    """All that is true of a video. number: which file of the data set, from 1, training files first."""

    number: int
    episodes: tuple[Episode, ...]


def draw_cued_scene(config: CuedShapesConfig, number: int) -> CuedScene:
    """What happens in a file: depends on the config and the file's number, on no other file.

    Data sets that differ in their shift alone have the same timeline, classes, looks, places of cues and distractors.
    """
    rng = random_numbers(config.seed, "cued scene", number)
    timeline = draw_timeline(config, rng)
    roles = draw_roles(config, rng)
    shapes = draw_shapes(config, number, len(roles), rng)
    background = draw_background_motion(config, rng)
    episodes, path = actor_path(config, labels_of(config, number), timeline, rng)
    centres = np.stack([path if role == "actor" else _distractor_path(config, role, timeline.frames, rng) for role in roles])
    return CuedScene(number=number, episodes=episodes, **stage_of(config, roles, shapes, centres, background))


def render_cued(config: CuedShapesConfig, scene: CuedScene) -> NDArray[np.uint8]:
    """The frames of a video, uint8 RGB (T, size, size, 3)."""
    return render_stage(config, scene, group=scene.number, noise_rng=random_numbers(config.seed, "cued noise", scene.number))


def _distractor_path(config: CuedShapesConfig, role: Role, frames: int, rng: np.random.Generator) -> Array:
    """As in motion_shapes, with the amplitude of a cue: at any one time a distractor's position follows the law of an actor's in a cue."""
    return config.size / 2 + shape_path(
        rng,
        role,
        classes=config.classes,
        actor_class=config.classes[0],
        own_phase=np.zeros(frames),
        amplitude=config.cue_amplitude,
        free=config.free_half_extents,
        drift=config.drift,
        jitter=config.jitter,
    )


def write_truth(out: Path, config: CuedShapesConfig) -> None:
    """Write truth.jsonl and manifest.jsonl under `out`, each file whole or not at all."""
    scenes = [draw_cued_scene(config, number) for number in _numbers(config)]
    write_rows(out / "truth.jsonl", (cued_truth_row(config, scene) for scene in scenes))
    write_manifest(out, config, (clip for scene in scenes for clip in _manifest_clips(config, scene)))


def _numbers(config: CuedShapesConfig) -> range:
    return range(1, config.files_train + config.files_test + 1)


def cued_truth_row(config: CuedShapesConfig, scene: CuedScene) -> dict[str, Any]:
    """One line of truth.jsonl, a video.

    path, group, subset, labelled; episodes: each with label (index), class, cue_s, travel_s and action_s ([start, end] in seconds),
    place and acting_place ([x, y] in pixels, what the motion of cue and action goes round), shift ([dx, dy], their difference),
    amplitude and cue_amplitude in pixels, period_s; actor, shapes and background_velocity as in motion_shapes.
    """
    return {
        "path": cued_video_path(scene.number),
        "group": group_of(scene.number),
        "subset": subset_of_file(config, scene.number),
        "labelled": is_labelled(config, scene.number),
        "episodes": [_episode_row(config, episode) for episode in scene.episodes],
        "actor": scene.actor,
        "shapes": shape_rows(scene),
        "background_velocity": [round(part, 4) for part in scene.background_velocity],
    }


def _episode_row(config: CuedShapesConfig, episode: Episode) -> dict[str, Any]:
    moments = [episode.cue_start, episode.cue_end, episode.action_start, episode.action_end]
    times_s = [round(frame / config.fps, 6) for frame in moments]
    return {
        "label": episode.label,
        "class": config.classes[episode.label],
        "cue_s": times_s[:2],
        "travel_s": times_s[1:3],
        "action_s": times_s[2:],
        **{key: [round(part, 6) for part in getattr(episode, key)] for key in ("place", "acting_place", "shift")},
        "amplitude": round(episode.amplitude, 6),
        "cue_amplitude": config.cue_amplitude,
        "period_s": round(episode.period / config.fps, 6),
    }


def _manifest_clips(config: CuedShapesConfig, scene: CuedScene) -> Iterator[Clip]:
    """One row an action; its boxes are those of the actor from the start of the cue to the end of the action."""
    number = scene.number
    for order, episode in enumerate(scene.episodes, start=1):
        yield Clip(
            path=cued_video_path(number),
            label=episode.label if is_labelled(config, number) else None,
            group=group_of(number),
            subsets={SPLIT: subset_of_file(config, number)},
            start_s=round(episode.action_start / config.fps, 6),
            end_s=round(episode.action_end / config.fps, 6),
            boxes=actor_boxes(scene, config.fps, episode.cue_start, episode.action_end),
            name=f"{group_of(number)}_e{order}",
        )


def write_cued_shapes(out: Path | str, config: CuedShapesConfig | None = None, *, workers: int | None = None) -> Written:
    """Write videos, manifest.jsonl, truth.jsonl and config.json under `out`; see `write_data_set`."""
    config = config or CuedShapesConfig()
    counts = {"train": config.files_train * config.episodes, "test": config.files_test * config.episodes}
    places = {cued_video_path(number): number for number in _numbers(config)}
    return write_data_set(Path(out), config, places, _frames, write_truth, workers, counts)


def _frames(config: CuedShapesConfig, number: int) -> NDArray[np.uint8]:
    return render_cued(config, draw_cued_scene(config, number))
