"""How much memory a small ONNX file asks for by shapes that it names: constants made of a shape, and sides of inputs and outputs.

It looks for what a library would allocate as soon as it opens the file; it does not follow sizes that come of a clip or a frame.
"""

import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidkd.base.errors import CheckpointError
from vidkd.runtime.network import MOST_VALUES
from vidkd.runtime.onnx_file import GRAPH, INPUT, OUTPUT, TENSOR, TENSOR_NAME, Span, content_of, fields_of, numbers_of

MOST_MADE = 2**25
"""Values that the constants of one file may have which it makes of shapes alone, 128 MiB as float32."""
MOST_SIDES = 64
"""Values of a tensor up to which it may be a shape."""
DENSER = 8
"""Values that a byte of a file holds at most."""
FUNCTION = 25
NODE, SPARSE = 1, 15  # of a graph
NODE_OF_FUNCTION = 7
TAKES, GIVES, KIND, ATTRIBUTE = 1, 2, 4, 5  # of a node
NAME, WHOLE, OF_TENSOR, OF_GRAPH, WHOLES, GRAPHS, OF_SPARSE, SPARSES = 1, 3, 5, 6, 8, 11, 22, 23  # of an attribute
DIMS, TYPE, FLOATS, INT32S, INT64S, RAW, DOUBLES, ELSEWHERE = 1, 2, 4, 5, 7, 9, 10, 13  # of a tensor
SPARSE_DIMS = 3
TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}
"""Of the tensors by which a file tells shapes and scales."""
SAME_VALUES = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
"""What gives the values of its first input again."""
MAKERS = ("ConstantOfShape", "Expand", "Tile", "Range")
SCALERS = ("Resize", "Upsample")

Values = list[float]


@dataclass
class _Known:
    """What a graph tells before it is run. values: of short constants. counts: how many values a tensor has at least. made: of shapes."""

    values: dict[str, Values] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    made: float = 0


def check_sizes(path: Path) -> None:
    """Raise CheckpointError for a file whose inputs, outputs or constants would take more memory than any network here needs.

    Constants are those that a shape in the file makes large: ConstantOfShape, Expand, Tile and Range, sparse tensors, and tensors without
    the values that their sides promise; Resize by sizes or scales in the file. What else a file computes is not looked at.
    """
    with content_of(path) as data:
        known = _Known()
        for number, span in fields_of(data, (0, len(data))):
            if number == GRAPH:
                _check_graph(data, span, known, path)
            elif number == FUNCTION:
                inside = _Known(made=known.made)
                for node in _spans(data, span, NODE_OF_FUNCTION):
                    _check_node(data, node, inside, path)
                known.made = inside.made


def _spans(data: mmap.mmap, span: Span, *wanted: int) -> Iterator[Span]:
    return (value for number, value in fields_of(data, span) if number in wanted)


def _text(data: mmap.mmap, span: Span) -> str:
    return data[slice(*span)].decode("utf-8", "replace")


def _check_graph(data: mmap.mmap, span: Span, known: _Known, path: Path) -> None:
    for tensor in _spans(data, span, TENSOR):
        name = next((_text(data, at) for at in _spans(data, tensor, TENSOR_NAME)), "")
        _note_tensor(data, tensor, name, known, path)
    for tensor in _spans(data, span, SPARSE):
        _check_made(_product(numbers_of(data, tensor, SPARSE_DIMS)), "a sparse tensor", known, path)
    for port in _spans(data, span, INPUT, OUTPUT):
        name = next((_text(data, at) for at in _spans(data, port, NAME)), "")
        count = _product(_sides(data, port))
        if count > MOST_VALUES:
            raise too_large(f"'{name}' has sides of {count:.3g} values, more than {MOST_VALUES}", path)
        known.counts.setdefault(name, count)
    for node in _spans(data, span, NODE):
        _check_node(data, node, known, path)


def _sides(data: mmap.mmap, port: Span) -> list[int]:
    """The sides of an input or output that are not left open."""
    found = [port]
    for number in (2, 1, 2, 1):  # its type, that of a tensor, its shape, the sides
        found = [inner for outer in found for inner in _spans(data, outer, number)]
    return [side for place in found for side in numbers_of(data, place, 1)]


def _check_node(data: mmap.mmap, node: Span, known: _Known, path: Path) -> None:
    fields = list(fields_of(data, node))
    takes, gives = ([_text(data, at) for number, at in fields if number == wanted] for wanted in (TAKES, GIVES))
    kind = next((_text(data, at) for number, at in fields if number == KIND), "")
    for number, at in fields:
        if number == ATTRIBUTE:
            _check_attribute(data, at, gives if kind == "Constant" else (), known, path)
    if kind in SAME_VALUES and takes and takes[0] in known.values:
        known.values.update(dict.fromkeys(gives, known.values[takes[0]]))
    if kind == "Concat" and all(name in known.values for name in takes):
        known.values.update(dict.fromkeys(gives, [value for name in takes for value in known.values[name]][:MOST_SIDES]))
    count = _count_of(kind, takes, known)
    if count is None:
        return
    what = f"{kind} '{gives[0] if gives else ''}'"
    if kind in MAKERS:
        _check_made(count, what, known, path)
    elif count > MOST_VALUES:
        raise too_large(f"{what} makes {count:.3g} values, more than {MOST_VALUES}", path)
    known.counts.update(dict.fromkeys(gives, count))


def _count_of(kind: str, takes: Sequence[str], known: _Known) -> float | None:
    """How many values a node gives at least, if it is of those that make large things and the file names how large."""
    values = [known.values.get(name) for name in takes]
    before = known.counts.get(takes[0], 1) if takes else 1
    if kind == "ConstantOfShape" and values and values[0] is not None:
        return _product(values[0])
    if kind in ("Expand", "Tile") and len(values) > 1 and values[1] is not None:
        return max(before, _product(values[1])) if kind == "Expand" else before * _product(values[1])
    if kind == "Range" and len(values) == 3 and all(values):
        start, end, step = (value[0] for value in values if value)
        return max(0.0, (end - start) / step) if step else math.inf
    if kind in SCALERS:
        # the last one that is there counts: sizes, or scales of what there is
        told = next((value for value in values[:0:-1] if value), None)
        return None if told is None else _product(told) if len(values) > 3 and values[3] else before * _product(told)
    return None


def _check_attribute(data: mmap.mmap, span: Span, gives: Sequence[str], known: _Known, path: Path) -> None:
    """Subgraphs and tensors of a node; gives: names of a constant's output."""
    for number, at in fields_of(data, span):
        if number in (OF_GRAPH, GRAPHS):
            inside = _Known(dict(known.values), dict(known.counts), known.made)
            _check_graph(data, at, inside, path)
            known.made = inside.made
        elif number == OF_TENSOR:
            _note_tensor(data, at, gives[0] if gives else "", known, path)
        elif number in (OF_SPARSE, SPARSES):
            _check_made(_product(numbers_of(data, at, SPARSE_DIMS)), "a sparse tensor", known, path)
    if gives and (found := [*numbers_of(data, span, WHOLE), *numbers_of(data, span, WHOLES)][:MOST_SIDES]):
        known.values[gives[0]] = [float(value) for value in found]


def _note_tensor(data: mmap.mmap, span: Span, name: str, known: _Known, path: Path) -> None:
    count = _product(numbers_of(data, span, DIMS))
    is_inside = not any(True for _ in _spans(data, span, ELSEWHERE))
    if is_inside and count > DENSER * (span[1] - span[0]):
        _check_made(count, f"tensor '{name}', whose values are not in the file,", known, path)
    known.counts[name] = count
    if is_inside and count <= MOST_SIDES:
        known.values[name] = _values(data, span)


def _values(data: mmap.mmap, span: Span) -> Values:
    kind = (numbers_of(data, span, TYPE) or [0])[0]
    packed = {RAW: TYPES.get(kind), FLOATS: "<f4", DOUBLES: "<f8"}
    for number, at in fields_of(data, span):
        form = packed.get(number)
        if form is not None and (at[1] - at[0]) % np.dtype(form).itemsize == 0:
            return [float(value) for value in np.frombuffer(data[slice(*at)], form)]
    return [float(value) for value in (numbers_of(data, span, INT64S) or numbers_of(data, span, INT32S))]


def _check_made(count: float, what: str, known: _Known, path: Path) -> None:
    known.made += count
    if known.made > MOST_MADE:
        raise too_large(f"{what} makes {count:.3g} values of a shape alone; a file may make {MOST_MADE} in all", path)


def _product(sides: Sequence[float]) -> float:
    """As floating point, for a file may name sides whose product no integer type holds; open sides (0, -1) count as one."""
    return math.prod(max(1.0, float(side)) if math.isfinite(side) else math.inf for side in sides)


def too_large(reason: str, path: Path) -> CheckpointError:
    """The error for a file that asks for more memory than any network here needs."""
    return CheckpointError(
        f"model asks for more memory than it may: {path}", reason=reason, to_mend="do not run a model that you do not trust"
    )
