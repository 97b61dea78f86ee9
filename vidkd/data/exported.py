"""How clips are shown to an exported classifier: the settings of its training that its file carries. Nothing here imports torch."""

import dataclasses
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.records import read_record
from vidkd.data.config import DataConfig
from vidkd.runtime.metadata import ClassifierMetadata

SHOWN = ("window", "observe", "transform", "flow", "decode_short_side", "decoder", "eval_clips", "eval_crops")
"""Settings of `DataConfig` that an exported file carries; what names a data set stays behind."""
NO_FOLDER = "(not in the exported file: name it by --data.flow.folder)"


def shown_settings(data: DataConfig) -> dict[str, Any]:
    """The settings that go into an exported file, as plain values; the folder of stored flow is this machine's and does not."""
    if data.flow.source == "stored":
        data = dataclasses.replace(data, flow=dataclasses.replace(data.flow, folder=NO_FOLDER))
    values = dataclasses.asdict(data)
    return {name: values[name] for name in SHOWN}


def shown_data(metadata: ClassifierMetadata, where: str) -> DataConfig:
    """The settings that an exported file carries, with defaults for what names a data set.

    where: the file, for messages. Raises ConfigError naming the key: unknown, missing, of a wrong value, or at odds with the network.
    """
    where = f"{where} (embedded)"
    for name in metadata.shown:
        if name not in SHOWN:
            raise ConfigError(f"unknown key 'shown.{name}'"[:80], where=where, known=", ".join(SHOWN))
    missing = [f"shown.{name}" for name in SHOWN if name not in metadata.shown]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}", where=where)
    data, taken = read_record(DataConfig, metadata.shown, where, prefix="shown."), metadata.input
    pairs = {"window.frames": (data.window.frames, taken.frames), "transform.crop": (data.transform.crop, taken.size)}
    for key, (shown, size) in pairs.items():
        if shown != size:
            raise ConfigError(f"shown.{key} is {shown}, the network takes {size}", where=where)
    return data
