"""Looking into an ONNX file without running it: which other files it names, and what it says of itself.

Protobuf's wire format, read for this alone. ONNX Runtime reads weights from the files that a model names; old versions of it follow a
path wherever it leads.
"""

import contextlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import CheckpointError

# Field numbers of onnx.proto3 that lead to tensors, message by message.
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
# And those of what a model says of itself: of the model, of its graph, of a port, of an entry.
GRAPH, METADATA = 7, 14
INPUT, OUTPUT = 11, 12
TENSOR = 5
NAME, TENSOR_NAME = 1, 8
KEY, VALUE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 100  # protobuf's own limit of nesting

Span = tuple[int, int]


def check_external_data(path: Path) -> None:
    """Raises CheckpointError if the file is no whole ONNX model, or names a file of weights outside its own folder, by links too."""
    folder = path.parent.resolve()
    for location in external_files(path):
        if not _is_inside(folder, location):
            raise CheckpointError(
                f"model refers to a file outside its folder: {path}",
                refers_to=location,
                to_mend="do not run a model that you do not trust; else put its weights beside it and save it again",
            )


def _is_inside(folder: Path, location: str) -> bool:
    try:
        return (folder / location).resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # a circle of links, a name that no file can have
        return False


def external_files(path: Path) -> set[str]:
    """Files of weights that a model names, as written in it. Raises CheckpointError if the file is no whole protobuf message."""
    with content_of(path) as data:
        return set(_locations(data, (0, len(data)), "model", 0))


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an ONNX file says of itself: the entries of its metadata, the names of its inputs and outputs in its order."""

    metadata: Mapping[str, str]
    inputs: Sequence[str]
    outputs: Sequence[str]


def told_by(path: Path) -> Told:
    """Read what a model says of itself. Raises CheckpointError if the file is no whole protobuf message, or a text in it is not UTF-8.

    Of entries of one key the last counts, as for ONNX Runtime. Inputs may be weights that have a value too, in files of old exporters.
    """
    metadata: dict[str, str] = {}
    names: dict[int, list[str]] = {INPUT: [], OUTPUT: []}
    with content_of(path) as data:
        for number, span in fields_of(data, (0, len(data))):
            if number == METADATA:
                entry = _texts(data, span, KEY, VALUE)
                metadata[entry.get(KEY, "")] = entry.get(VALUE, "")
            if number == GRAPH:
                for kind, port in fields_of(data, span):
                    if kind in names:
                        names[kind].append(_texts(data, port, NAME).get(NAME, ""))
    return Told(metadata=metadata, inputs=names[INPUT], outputs=names[OUTPUT])


def batch_of(path: Path) -> int | None:
    """The first side of the first input that is no weights; None where it is left open. Raises CheckpointError as `told_by`."""
    with content_of(path) as data:
        for _, graph in (field for field in fields_of(data, (0, len(data))) if field[0] == GRAPH):
            fields = list(fields_of(data, graph))
            weights = {_texts(data, span, TENSOR_NAME).get(TENSOR_NAME) for number, span in fields if number == TENSOR}
            for number, port in fields:
                if number == INPUT and _texts(data, port, NAME).get(NAME) not in weights:
                    return next(iter(numbers_of(data, side, 1)), None) if (side := _first_side(data, port)) else None
    return None


def _first_side(data: mmap.mmap, port: Span) -> Span | None:
    place: Span | None = port
    for wanted in (2, 1, 2, 1):  # its type, that of a tensor, its shape, the first side
        place = next((span for number, span in fields_of(data, place) if number == wanted), None) if place else None
    return place


@contextlib.contextmanager
def content_of(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of the file; what the block finds wrong with them becomes a CheckpointError."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise CheckpointError(f"model file is empty: {path}", to_mend="fetch or export it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                yield data
            except (ValueError, IndexError) as error:
                raise CheckpointError(f"not a whole ONNX model: {path}", reason=str(error), to_mend="fetch or export it again") from error


def _texts(data: mmap.mmap, span: Span, *numbers: int) -> dict[int, str]:
    """The fields of a message that have these numbers, as text."""
    return {number: data[slice(*value)].decode() for number, value in fields_of(data, span) if number in numbers}


def _locations(data: mmap.mmap, span: Span, message: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if message == "entry":
        texts = {number: data[slice(*value)] for number, value in fields_of(data, span)}
        if texts.get(1) == b"location":
            yield texts.get(2, b"").decode("utf-8", "surrogateescape")
        return
    for number, value in fields_of(data, span):
        if number in CHILDREN[message]:
            yield from _locations(data, value, CHILDREN[message][number], depth + 1)


def fields_of(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span]]:
    """Numbers and places of the fields of a message that hold bytes, or a number of fixed width."""
    for number, value in _parts(data, span):
        if not isinstance(value, int):
            yield number, value


def numbers_of(data: mmap.mmap, span: Span, wanted: int) -> list[int]:
    """The whole numbers of a field of int64, packed or not, as what they are with their sign."""
    found: list[int] = []
    for number, value in _parts(data, span):
        if number != wanted:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        position, end = value
        while position < end:
            one, position = _varint(data, position)
            found.append(one)
    return [value - 2**64 if value >= 2**63 else value for value in found]


def _parts(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span | int]]:
    """Numbers of the fields of a message; places of those that hold bytes or a number of fixed width, values of whole numbers."""
    position, end = span
    while position < end:
        key, position = _varint(data, position)
        kind = key & 7
        if kind == BYTES:
            length, position = _varint(data, position)
            if position + length > end:
                raise ValueError(f"a part at byte {position} runs past the end")
            yield key >> 3, (position, position + length)
            position += length
        elif kind == VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
        elif kind in (FIXED64, FIXED32):
            width = 8 if kind == FIXED64 else 4
            yield key >> 3, (position, position + width)
            position += width
        else:
            raise ValueError(f"no protobuf at byte {position}")
    if position > end:
        raise ValueError("a number runs past the end")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"no protobuf at byte {position}")
