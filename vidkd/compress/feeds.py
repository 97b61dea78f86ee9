"""Samples on which the ranges of integers are found: as ONNX Runtime asks for them, and no more at once than fit into memory."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.base.memory import available_bytes, resident_bytes

log = logging.getLogger(__name__)

Feed = Mapping[str, NDArray[Any]]
"""Inputs of a graph by name, of one batch."""

HELD = 2.5
"""How many times the activations of a batch ONNX Runtime holds while ranges are found: all of them, since each is asked for its extremes,
and what it had laid out for the batch before. 2.0 were measured with mc3_18, 2.4 with mvit_v2_s."""
PROBED_FROM, PROBED_TO = 2, 6
"""Batches between which memory is looked at: the first ones take more, for the runtime's own buffers."""


def one_by_one(feeds: Sequence[Feed]) -> list[Feed]:
    """The same samples as batches of one, for a graph that takes no other."""
    return [{name: values[at : at + 1] for name, values in feed.items()} for feed in feeds for at in range(_samples(feed))]


def fitting(model: Any, feeds: Sequence[Feed], *, keeps: bool) -> Sequence[Feed]:
    """The feeds in batches as they are, or one by one where the activations of a batch would not fit into memory; ranges are the same.

    model: a float graph of ONNX. keeps: all activations of all samples are kept, for histograms; these are taken one by one in any case,
    since histograms of unlike shapes are refused by ONNX Runtime. Nothing is looked at where the system does not tell its memory.
    Raises ConfigError where one sample, or with `keeps` all, would not fit, by an estimate: nothing has been run by then.
    """
    parted = one_by_one(feeds)
    free, one = available_bytes(), activation_bytes(model)
    if free is None:
        return parted if keeps else feeds
    if keeps:
        check_fits(
            round(one * (HELD + len(parted))),
            f"the activations of {len(parted)} samples do not fit into memory, where histograms need all of them at once",
            hint=f"ranges: minmax, or fewer clips ({max(0, int(free / max(1, one) - HELD))} would fit)",
        )
        return parted
    check_fits(
        round(one * HELD),
        "the activations of one sample do not fit into memory, where ranges of integers are found",
        hint="fewer or smaller frames (data.window.frames, data.transform.crop), a machine with more memory, or a file in float",
    )
    batch = max(map(_samples, feeds), default=0)
    if one * HELD * batch <= free:
        return feeds
    log.info("ranges are found sample by sample: batches of %d would take %.1f GiB", batch, one * HELD * batch / 2**30)
    return parted


def check_fits(needed: int, what: str, *, hint: str) -> None:
    """Raise ConfigError if so many bytes are not to be had. what: what does not fit then."""
    free = available_bytes()
    if free is not None and needed > free:
        lines = {"needed": f"about {needed / 2**30:.1f} GiB", "available": f"{free / 2**30:.1f} GiB"}
        raise ConfigError(what, **lines, hint=hint)


def activation_bytes(model: Any) -> int:
    """Bytes of all that the nodes of a graph put out for one sample, by the shapes that ONNX infers; without what it knows no shape of."""
    onnx = require("onnx", "compress")
    single = type(model)()
    single.CopyFrom(model)
    del single.graph.value_info[:]  # of any batch, where these are of one
    for given in single.graph.input:
        for side in given.type.tensor_type.shape.dim[:1]:
            side.dim_value = 1
    for output in single.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    put_out = {name for node in inferred.node for name in node.output}
    return sum(_bytes(value.type.tensor_type) for value in (*inferred.value_info, *inferred.output) if value.name in put_out)


def _bytes(tensor: Any) -> int:
    sides = [side.dim_value if side.HasField("dim_value") else 0 for side in tensor.shape.dim]
    if not tensor.elem_type or not tensor.HasField("shape"):
        return 0
    size: int = require("onnx", "compress").helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return int(np.prod(sides, dtype=np.int64)) * size


def _samples(feed: Feed) -> int:
    return len(next(iter(feed.values())))


class Reader:
    """Batches as ONNX Runtime's calibration asks for them. keeps: whether it keeps the activations of all, for histograms of them."""

    def __init__(self, feeds: Sequence[Feed], *, keeps: bool) -> None:
        self._left, self._count, self._keeps = iter(feeds), len(feeds), keeps
        self._given, self._before = 0, 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None behind the last. Raises ConfigError as `_check_memory` does."""
        if self._keeps:
            self._check_memory()
        self._given += 1
        feed = next(self._left, None)
        return None if feed is None else dict(feed)

    def _check_memory(self) -> None:
        """Raise ConfigError, once a few batches have shown what one takes, where the rest would take more memory than there is.

        For graphs of which shapes are not known beforehand.
        """
        held, free = resident_bytes(), available_bytes()
        if held is None or free is None:
            return
        if self._given == PROBED_FROM:
            self._before = held
        if self._given == PROBED_TO:
            needed = (held - self._before) // (PROBED_TO - PROBED_FROM) * (self._count - self._given)
            if needed > free:
                raise ConfigError(
                    f"the activations of {self._count} samples do not fit into memory, where histograms need all of them at once",
                    needed=f"{needed / 2**30:.1f} GiB more",
                    available=f"{free / 2**30:.1f} GiB",
                    hint="ranges: minmax, or fewer clips",
                )

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return self

    def __next__(self) -> dict[str, NDArray[Any]]:
        return dict(next(self._left))
