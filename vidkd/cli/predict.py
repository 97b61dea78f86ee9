"""Classify a video over time by a sliding window, and draw where the network looks.

A network that was trained to name what comes later is refused: `vidkd anticipate` is for it.
An exported file (`vidkd export`) is run without torch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from vidkd.cli.classifiers import add_runtime_argument, add_threads_argument
from vidkd.cli.number_flags import add_count, add_number
from vidkd.cli.outputs import Said, add_overwrite_argument, check_outputs, check_video_ending


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("video", metavar="VIDEO", help="a video file, a folder of images, or a glob in quotes")
    parser.add_argument(
        "--checkpoint", required=True, metavar="F", help="a checkpoint, the folder of a run, or an exported .onnx or .xml file"
    )
    add_count(parser, "--top", default=3, metavar="K", help="classes shown for each window (default: 3)")
    add_number(parser, "--step-s", above=0, metavar="S", help="seconds from window to window (default: half a window)")
    parser.add_argument("--overlay", metavar="OUT.mp4", help="write the video with the attention drawn on it")
    parser.add_argument("--json", metavar="OUT.json", help="write the probabilities of all classes in every window")
    add_overwrite_argument(parser, "--json", "--overlay")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add_threads_argument(parser)
    add_runtime_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, print, and write what was asked for."""
    from vidkd.base.errors import ConfigError
    from vidkd.base.files import write_json
    from vidkd.cli.classifiers import open_classifier
    from vidkd.inference.observation_window import TRAINED_FOR
    from vidkd.inference.predict import check_recognises, predict_video

    outputs = {"--json": arguments.json, "--overlay": arguments.overlay}
    check_outputs(outputs, source=arguments.video, overwrite=arguments.overwrite)
    check_video_ending("--overlay", arguments.overlay)
    opened = open_classifier(arguments.checkpoint, device=arguments.device, threads=arguments.threads, runtime=arguments.runtime)
    check_recognises(opened.data)
    protocol = opened.data.observe.protocol
    if arguments.overlay and not opened.has_maps:
        raise ConfigError(
            "this network has no attention map to draw", hint="a checkpoint whose model.attention.pooling is soft or probabilistic"
        )
    if arguments.overlay:
        _make_folder_of(Path(arguments.overlay))
    if protocol != "whole":
        sys.stderr.write(f"trained for {TRAINED_FOR[protocol]}: sees each window as one clip, seen whole, and names what goes on in it\n")
    said = Said([name for name in (arguments.json, arguments.overlay) if name])
    rows = []
    windows = []
    for window in predict_video(Path(arguments.video), opened.classifier, opened.data, step_s=arguments.step_s):
        best = window.probabilities.argsort()[::-1][: arguments.top]
        row: dict[str, Any] = {
            "start_s": round(window.start_s, 3),
            "end_s": round(window.end_s, 3),
            "top": [{"class": opened.classes[k], "p": round(float(window.probabilities[k]), 4)} for k in best],
            "probabilities": [round(float(p), 6) for p in window.probabilities],
        }
        rows.append(row)
        said.line(
            f"{row['start_s']:8.2f} - {row['end_s']:8.2f} s   " + "   ".join(f"{entry['class']} {entry['p']:.2f}" for entry in row["top"])
        )
        if arguments.overlay:
            windows.append(window)
    if arguments.json:
        source = {"video": arguments.video, "checkpoint": arguments.checkpoint, "protocol": protocol}
        write_json(arguments.json, {**source, "classes": list(opened.classes), "windows": rows})
        said.line(f"written: {arguments.json}")
    if arguments.overlay:
        from vidkd.report.overlay import write_overlay

        frames = write_overlay(Path(arguments.video), Path(arguments.overlay), windows, opened.classes)
        said.line(f"written: {arguments.overlay} ({frames} frames)")
    return 0


def _make_folder_of(path: Path) -> None:
    """Make the folder that a video will lie in, before the work that it takes. Raises VideoError if it cannot be."""
    from vidkd.base.errors import VideoError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(f"cannot write video: {path}", reason=error.strerror or error, hint="another --overlay") from error
