"""Run a light detector along videos while it learns from a heavy oracle, which is asked on few key frames.

Writes what detect writes, and key_frames.jsonl, losses.csv and report.html. Killed at any moment, the same command resumes, unless
--asynchronous. Settings of learning follow as flags (--settings lists them) or lie in --config. docs/guides/streams.md explains the rest.

  vidkd tkd street.mp4 --model tiny.cfg --weights tiny.weights --names coco.names --oracle yolox_nano.onnx --out learned
  vidkd tkd videos/ --model runs/tiny --oracle yolox_nano.onnx --policy selector.pt --budget 0.05 --out learned --update.lr 1e-4
  vidkd tkd videos/ --config tkd/shapes --out learned
"""

from dataclasses import dataclass
from pathlib import Path

from vidkd.base.fields import Positive, Share
from vidkd.cli.streams import LearningSettings, StreamSettings
from vidkd.cli.verb_parser import positional


@dataclass(frozen=True, kw_only=True)
class Settings(LearningSettings, StreamSettings):
    """The verb's own.

    Args:
        inputs: video files, folders, globs in quotes, image sequences, a camera's number, rtsp://...
        policy: what chooses key frames: the name of a policy, or the file of a trained selector.
        save_student: a folder for the student after the last frame: cfg, weights, names.
        emit_oracle: key frames carry the oracle's boxes, not the student's; only the JSON lines mark them.
        compare_policies: compare all policies along each video at these shares of calls, for the report.
        asynchronous: oracle and training run in parallel to the stream; a file is read at its frame rate; cannot be resumed.
        timeout: give up an answer of the oracle after so many seconds (default: 10 with --asynchronous, else never).
        list_settings: list every setting that may follow as a flag, and stop.
    """

    inputs: tuple[str, ...] = positional("VIDEO")
    policy: str = "fixed"
    save_student: Path | None = None
    emit_oracle: bool = False
    compare_policies: tuple[Share, ...] = ()
    asynchronous: bool = False
    timeout: Positive | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Learn along every input, one after the other; returns 1 if one of several failed, 130 if the user stopped it."""
    if given.list_settings:
        from vidkd.cli.verb_parser import list_settings
        from vidkd.detection.online.update import LearningConfig

        return list_settings(LearningConfig)
    from vidkd.cli.tkd_run import learn

    return learn(given)
