"""From the file to the answer: decoding, optical flow where a model needs it, and the model, on the clips or frames of the data set."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.bench.speed.config import DataSpec
from vidkd.bench.speed.opening import ClipInput, OpenModel
from vidkd.bench.speed.rounds import Clock
from vidkd.bench.speed.two_streams import joined
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import frames_by_path, read_frame
from vidkd.engine.clips import Clips
from vidkd.engine.setup import evaluation_set
from vidkd.inference.sources import open_source

TOTAL, DECODE, FLOW, MODEL = "end_to_end", "decode", "flow", "model"
Parts = Mapping[str, list[float]]


class Reader(Protocol):
    """Samples of a data set, from their files."""

    def read(self) -> NDArray[Any]:
        """The next sample, (1, ...), starting again after the last."""
        ...

    def read_without_flow(self) -> NDArray[Any] | None:
        """The RGB of the sample that `read` gives next; None where that is RGB itself."""
        ...


class ClipReader:
    """The middle window and crop of one clip after another: opened, decoded, with flow, resized and cropped as in an evaluation."""

    def __init__(self, opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips) -> None:
        data = dataclasses.replace(data, eval_clips=1, eval_crops=1)
        *_, fraction = data.observe.judged_fractions
        self.views: list[str] = ["rgb", "flow"] if opened.streams else [opened.input.view] if isinstance(opened.input, ClipInput) else []
        self._seen, self._rgb = (evaluation_set(clips, spec.subset, data, views, fraction=fraction) for views in (self.views, ["rgb"]))
        self._next = 0

    def read(self) -> NDArray[Any]:
        """See `Reader`."""
        number, self._next = self._next, (self._next + 1) % len(self._seen)
        return self._sample(self._seen, number, self.views)

    def read_without_flow(self) -> NDArray[Any] | None:
        """See `Reader`."""
        return self._sample(self._rgb, self._next, ["rgb"]) if "flow" in self.views else None

    def _sample(self, samples: ClipDataset, number: int, views: Sequence[str]) -> NDArray[Any]:
        sample = samples[(0, number)]
        seen = [np.asarray(sample[view].numpy()[None], np.float32 if view == "flow" else np.uint8) for view in views]
        return joined(*seen) if len(seen) == 2 else seen[0]


class FrameReader:
    """One frame after another along the annotated files, read as `vidkd detect` reads them; an image is a file of its own."""

    def __init__(self, truth: BoxManifest) -> None:
        self._frames = self._walk(truth)

    def read(self) -> NDArray[Any]:
        """See `Reader`."""
        return next(self._frames)[None]

    def read_without_flow(self) -> NDArray[Any] | None:
        """See `Reader`."""
        return None

    def _walk(self, truth: BoxManifest) -> Iterator[NDArray[np.uint8]]:
        files = frames_by_path(truth)
        for path in itertools.cycle(files):
            if files[path][0].frame_index is None:
                yield read_frame(truth, files[path][0])
                continue
            with open_source(str(truth.root / path)) as source:
                for frame in source.frames:
                    yield np.asarray(frame.image, np.uint8)


def end_to_end_block(opened: OpenModel, reader: Reader, *, calls: int, clock: Clock, host: Clock) -> Parts:
    """Seconds of `calls` samples: in all, of decoding (with resizing and cropping), of flow where there is one, and of the model.

    A sample that is not timed comes first, as before it another model had its turn. What flow costs is what reading with it takes longer
    than reading the same window without; the latter is not part of the whole.
    clock: of the model; host: of everything else.
    """
    opened.begin()
    opened.answer(reader.read())
    found: dict[str, list[float]] = {}
    for _ in range(calls):
        plain_s = _seconds_of(reader.read_without_flow, host)[0] if _has_flow(opened) else None
        read_s, sample = _seconds_of(reader.read, host)
        model_s = clock(lambda sample=sample: opened.answer(sample))  # type: ignore[misc]
        parts = {TOTAL: read_s + model_s, DECODE: read_s if plain_s is None else plain_s, MODEL: model_s}
        if plain_s is not None:
            parts[FLOW] = max(0.0, read_s - plain_s)
        for name, seconds in parts.items():
            found.setdefault(name, []).append(seconds)
    return found


def _has_flow(opened: OpenModel) -> bool:
    return bool(opened.streams) or (isinstance(opened.input, ClipInput) and opened.input.view == "flow")


def _seconds_of(function: Callable[[], Any], host: Clock) -> tuple[float, Any]:
    found: list[Any] = []
    return host(lambda: found.append(function())), found[0]


def samples_of(reader: Reader, count: int) -> NDArray[Any]:
    """The first samples of a reader in one batch, (count, ...); frames of another size than the first are passed over."""
    first = reader.read()
    rows = [first]
    for _ in range(10 * count):
        if len(rows) == count:
            break
        sample = reader.read()
        if sample.shape == first.shape:
            rows.append(sample)
    return np.concatenate([rows[number % len(rows)] for number in range(count)])
