"""Manifest and ground truth of the data set, computed from the config without drawing a frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidkd.data.cued_shapes.config import CuedShapesConfig
from vidkd.data.cued_shapes.files import cued_video_path, group_of, is_labelled, subset_of_file
from vidkd.data.cued_shapes.path import Episode
from vidkd.data.cued_shapes.scene import CuedScene, draw_cued_scene
from vidkd.data.manifest import Clip, Manifest
from vidkd.data.motion_shapes.truth import SPLIT, actor_boxes, json_line, shape_rows, write_text_lines


def write_truth(out: Path, config: CuedShapesConfig) -> None:
    """Write truth.jsonl and manifest.jsonl under `out`, each file whole or not at all."""
    scenes = [draw_cued_scene(config, number) for number in range(1, config.files_train + config.files_test + 1)]
    write_text_lines(out / "truth.jsonl", (json_line(cued_truth_row(config, scene)) for scene in scenes))
    manifest = Manifest(
        name=config.data_set,
        root=out,
        classes=config.classes,
        splits=(SPLIT,),
        clips=tuple(clip for scene in scenes for clip in _manifest_clips(config, scene)),
        horizontal_flip=False,
    )
    manifest.write(out / "manifest.jsonl")


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
    def seconds(*frames: int) -> list[float]:
        return [round(frame / config.fps, 6) for frame in frames]

    return {
        "label": episode.label,
        "class": config.classes[episode.label],
        "cue_s": seconds(episode.cue_start, episode.cue_end),
        "travel_s": seconds(episode.cue_end, episode.action_start),
        "action_s": seconds(episode.action_start, episode.action_end),
        "place": [round(part, 6) for part in episode.place],
        "acting_place": [round(part, 6) for part in episode.acting_place],
        "shift": [round(part, 6) for part in episode.shift],
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
