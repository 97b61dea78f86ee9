"""Train the LSTM that chooses key frames, on videos along which a student learns while the oracle sees every frame.

What each video shows is recorded once and kept: interrupted, the same command continues with the videos that are left.
Settings of learning follow as flags (--settings lists them) or lie in --config. docs/guides/streams.md explains the rest.

  vidkd train_selector train/*.mp4 --validate 'other/*.mp4' --model tiny.cfg --weights tiny.weights --names coco.names
    --oracle yolox_nano.onnx --out selector.pt
"""

from dataclasses import dataclass
from pathlib import Path

from vidkd.base.fields import Count
from vidkd.cli.streams import LearningSettings
from vidkd.cli.verb_parser import positional


@dataclass(frozen=True, kw_only=True)
class Settings(LearningSettings):
    """The verb's own.

    Args:
        inputs: videos to learn from: files, folders, globs in quotes, image sequences.
        validate: other videos, by which training is judged and ended.
        out: the selector's file, for `vidkd tkd --policy F`.
        cache: where records are kept (default: records/ next to the selector).
        joined: the videos of each side are one stream, in the order named.
        records: of each stream to learn from, each with other calls; of joined videos in another order.
        list_settings: list every setting that may follow as a flag, and stop.
    """

    inputs: tuple[str, ...] = positional("VIDEO")
    validate: tuple[str, ...]
    out: Path
    cache: Path | None = None
    joined: bool = False
    records: Count = 1
    list_settings: bool = False
    settings: tuple[str, ...] = ()

    @property
    def records_in(self) -> Path:
        """The folder of the records."""
        return self.cache or self.out.parent / "records"


def run(given: Settings) -> int:
    """Record all videos, train, write the selector."""
    if given.list_settings:
        from vidkd.cli.verb_parser import list_settings
        from vidkd.detection.policies.train import SelectorRunConfig

        return list_settings(SelectorRunConfig)
    from vidkd.cli.train_selector_run import train

    return train(given)
