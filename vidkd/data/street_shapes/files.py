"""The files of the data set: their names and their sides of the split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vidkd.data.street_shapes.config import StreetShapesConfig

Role = Literal["plain", "wide", "val_plain", "val_wide", "stream_train", "stream_val", "stream_test"]
ROLES: tuple[Role, ...] = ("plain", "wide", "val_plain", "val_wide", "stream_train", "stream_val", "stream_test")


@dataclass(frozen=True, kw_only=True)
class VideoPlace:
    """Which video of the data set: what it is for, and its number among those, from 1."""

    role: Role
    number: int

    @property
    def path(self) -> str:
        """videos/<role>_<nn>.mp4 or streams/<subset>_<nn>.mp4, relative to the data set's folder."""
        folder, name = ("streams", self.subset) if self.is_stream else ("videos", self.role)
        return f"{folder}/{name}_{self.number:02d}.mp4"

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream, not a row of short scenes."""
        return self.role.startswith("stream_")

    @property
    def is_plain(self) -> bool:
        """Whether its scenes are plain ones."""
        return self.role.endswith("plain")

    @property
    def subset(self) -> str:
        """train, val or test."""
        if self.is_stream:
            return self.role.removeprefix("stream_")
        return "val" if self.role.startswith("val_") else "train"

    @property
    def key(self) -> tuple[int, int]:
        """What the video's random numbers are drawn from, beside the seed."""
        return ROLES.index(self.role), self.number


def video_places(config: StreetShapesConfig) -> Iterator[VideoPlace]:
    """Every video of the data set."""
    counts: dict[Role, int] = {
        "plain": config.videos_plain,
        "wide": config.videos_wide,
        "val_plain": config.videos_val,
        "val_wide": config.videos_val,
        "stream_train": config.streams_train,
        "stream_val": config.streams_val,
        "stream_test": config.streams_test,
    }
    for role, count in counts.items():
        yield from (VideoPlace(role=role, number=number) for number in range(1, count + 1))
