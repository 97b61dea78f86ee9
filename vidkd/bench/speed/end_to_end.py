"""From the file to the answer: decoding, optical flow where a model needs it, and the model, on the clips or frames of the data set."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.base.timing import timed
from vidkd.bench.speed.config import DataSpec
from vidkd.bench.speed.opening import OpenModel
from vidkd.bench.speed.rounds import Clock
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import read_frame
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
    """The middle window and crop of one clip after another: opened, decoded, with flow, resized and cropped as in an evaluation.

    data: one window and one crop of each clip, as `shown_clips` has it.
    """

    def __init__(self, opened: OpenModel, spec: DataSpec, data: DataConfig, clips: Clips) -> None:
        self.views = opened.input.views
        *_, fraction = data.observe.judged_fractions
        self._seen, self._rgb = (evaluation_set(clips, spec.subset, data, views, fraction=fraction) for views in (self.views, ("rgb",)))
        self._next = 0

    def read(self) -> NDArray[Any]:
        """See `Reader`."""
        number, self._next = self._next, (self._next + 1) % len(self._seen)
        return self._sample(self._seen, number, self.views)

    def read_without_flow(self) -> NDArray[Any] | None:
        """See `Reader`."""
        return self._sample(self._rgb, self._next, ("rgb",)) if "flow" in self.views else None

    def _sample(self, samples: ClipDataset, number: int, views: tuple[str, ...]) -> NDArray[Any]:
        sample = samples[(0, number)]
        kind = np.float32 if "flow" in views else np.uint8
        return np.concatenate([np.asarray(sample[view].numpy()[None], kind) for view in views], axis=1)


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
        files = truth.by_path()
        for path in itertools.cycle(files):
            if files[path][0].frame_index is None:
                yield read_frame(truth, files[path][0])
                continue
            with open_source(str(truth.root / path)) as source:
                for frame in source.frames:
                    yield np.asarray(frame.image, np.uint8)


def end_to_end_block(opened: OpenModel, reader: Reader, *, calls: int, clock: Clock, host: Clock = timed) -> Parts:
    """Seconds of `calls` samples: in all, of decoding (with resizing and cropping), of flow where there is one, and of the model.

    A sample that is not timed comes first, as before it another model had its turn. What flow costs is what reading with it takes longer
    than reading the same window without; the latter is not part of the whole.
    clock: of the model; host: of everything else.
    """
    opened.begin()
    opened.answer(reader.read())
    found: dict[str, list[float]] = {name: [] for name in (TOTAL, DECODE, MODEL, *([FLOW] if "flow" in opened.input.views else []))}
    samples: list[NDArray[Any]] = []
    for _ in range(calls):
        decode_s = host(reader.read_without_flow)
        read_s = host(lambda: samples.append(reader.read()))
        model_s = clock(lambda: opened.answer(samples.pop()))
        if FLOW in found:
            found[FLOW].append(max(0.0, read_s - decode_s))
        else:
            decode_s = read_s
        for name, seconds in ((TOTAL, read_s + model_s), (DECODE, decode_s), (MODEL, model_s)):
            found[name].append(seconds)
    return found


def samples_of(reader: Reader, count: int) -> NDArray[Any]:
    """The first samples of a reader in one batch, (count, ...); frames of another size than the first are passed over."""
    rows = [reader.read()]
    for _ in range(10 * count):
        if len(rows) < count and (sample := reader.read()).shape == rows[0].shape:
            rows.append(sample)
    return np.concatenate([rows[number % len(rows)] for number in range(count)])
