"""How clips are shown to an exported classifier: the settings of its training that its file carries. Nothing here imports torch."""

import dataclasses
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.records import read_record
from vidkd.data.config import DataConfig
from vidkd.runtime.metadata import ClassifierMetadata

SHOWN = ("window", "observe", "transform", "flow", "decode_short_side", "decoder", "eval_clips", "eval_crops")
"""Settings of `DataConfig` that an exported file carries; what names a data set stays behind."""
LONGEST_SIDE, MOST_FRAMES = 8192, 2**20
NO_FOLDER = "(not in the exported file: name it by --data.flow.folder)"


def shown_settings(data: DataConfig) -> dict[str, Any]:
    """The settings that go into an exported file, as plain values; the folder of stored flow is this machine's and does not."""
    if data.flow.source == "stored":
        data = dataclasses.replace(data, flow=dataclasses.replace(data.flow, folder=NO_FOLDER))
    values = dataclasses.asdict(data)
    return {name: values[name] for name in SHOWN}


def shown_data(metadata: ClassifierMetadata, where: str) -> DataConfig:
    """The settings that an exported file carries, with defaults for what names a data set.

    where: the file, for messages. Raises ConfigError naming the key: unknown, missing, of a wrong value, larger than can be meant, or at
    odds with the network's input.
    """
    where = f"{where} (embedded)"
    for name in metadata.shown:
        if name not in SHOWN:
            raise ConfigError(f"unknown key 'shown.{name}'"[:80], where=where, known=", ".join(SHOWN))
    missing = [f"shown.{name}" for name in SHOWN if name not in metadata.shown]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}", where=where)
    data = read_record(DataConfig, metadata.shown, where, prefix="shown.")
    _check_sizes(data, where)
    for key, shown, taken in (
        ("window.frames", data.window.frames, metadata.input.frames),
        ("transform.crop", data.transform.crop, metadata.input.size),
    ):
        if shown != taken:
            raise ConfigError(f"shown.{key} is {shown}, the network takes {taken}", where=where)
    return data


def _check_sizes(data: DataConfig, where: str) -> None:
    """Sizes that would be allocated, or walked over, before anybody sees that they cannot be meant."""
    sides = {"transform.short_side": data.transform.short_side, "decode_short_side": data.decode_short_side or LONGEST_SIDE}
    counts = {
        "window.stride": data.window.stride,
        "window.flow_step": data.window.pair_step,
        "eval_clips": data.eval_clips,
        "eval_crops": data.eval_crops,
        "observe.teacher_frames": data.observe.teacher_frames or 1,
    }
    for values, most in ((sides, LONGEST_SIDE), (counts, MOST_FRAMES)):
        for key, value in values.items():
            if not 1 <= value <= most:
                raise ConfigError(f"shown.{key} must be from 1 to {most}, not {value}", where=where)
