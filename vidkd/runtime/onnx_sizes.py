"""How much memory a small ONNX file asks for by shapes that it names: constants made of a shape, and sides of inputs and outputs.

It looks for what a library would allocate as soon as it opens the file; it does not follow sizes that come of a clip or a frame.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError
from vidkd.runtime.network import MOST_VALUES
from vidkd.runtime.onnx_file import GRAPH, INPUT, OUTPUT, TENSOR, TENSOR_NAME, Span, content_of, fields_of, numbers_of
from vidkd.runtime.onnx_shapes import MOST_KNOWN, Told, given, product

MOST_MADE = 2**25
"""Values that the constants of one file may have which it makes of shapes alone, 128 MiB as float32."""
DENSER = 8
"""Values that a byte of a file holds at most."""
FUNCTION = 25
NODE, SPARSE = 1, 15  # of a graph
NODE_OF_FUNCTION = 7
TAKES, GIVES, KIND, ATTRIBUTE = 1, 2, 4, 5  # of a node
NAME, FLOAT, WHOLE, OF_TENSOR, OF_GRAPH, REALS, WHOLES, GRAPHS, OF_SPARSE, SPARSES = 1, 2, 3, 5, 6, 7, 8, 11, 22, 23  # of an attribute
DIMS, TYPE, FLOATS, INT32S, INT64S, RAW, DOUBLES, ELSEWHERE = 1, 2, 4, 5, 7, 9, 10, 13  # of a tensor
SPARSE_DIMS = 3
TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "u1", 10: "<f2", 11: "<f8"}
"""Of the tensors by which a file tells shapes and scales."""
MAKERS = ("ConstantOfShape", "Expand", "Tile", "Range")
"""What makes values of a shape, whatever else it takes."""
SIZED = {"ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Pad": (1,), "Range": (0, 1, 2), "OneHot": (1,)}
"""Places of the inputs by which a node is told how much to make."""


@dataclass
class _Known:
    """What a graph tells before it is run. constants: names of what no input reaches. made: values, of shapes.

    all_followed: whether the sizes of all constants are known.
    """

    tensors: dict[str, Told] = field(default_factory=dict)
    constants: set[str] = field(default_factory=lambda: {""})
    made: float = 0
    all_followed: bool = True

    def inside(self) -> "_Known":
        """What a graph within it knows."""
        return _Known(dict(self.tensors), set(self.constants), self.made, self.all_followed)

    def take_over(self, inside: "_Known") -> None:
        """What was found out of a graph within it."""
        self.made, self.all_followed = inside.made, inside.all_followed


def check_sizes(path: Path) -> bool:
    """Raise CheckpointError for a file whose inputs, outputs or constants would take more memory than any network here needs.

    Constants are those that a shape in the file makes large: ConstantOfShape, Expand, Tile and Range, sparse tensors, tensors without the
    values that their sides promise, and whatever is larger than the constants that it is computed of (Pad, arithmetic that broadcasts).
    Anything else, as Resize by sizes or scales in the file, as far as the sides of what it takes are known. Shapes are followed through
    arithmetic on short tensors (`onnx_shapes`); those that come of a clip or frame of open sides are not. A size that comes of constants
    alone, in a way that is not followed, is refused too. Returns whether the sizes of all constants are known: if not, who runs the file
    should not work them out before they are needed.
    """
    with content_of(path) as data:
        known = _Known()
        for number, span in fields_of(data, (0, len(data))):
            if number == GRAPH:
                _check_graph(data, span, known, path)
            elif number == FUNCTION:
                inside = _Known(made=known.made, all_followed=known.all_followed)
                for node in _spans(data, span, NODE_OF_FUNCTION):
                    _check_node(data, node, inside, path)
                known.take_over(inside)
    return known.all_followed


def _spans(data: mmap.mmap, span: Span, *wanted: int) -> Iterator[Span]:
    return (value for number, value in fields_of(data, span) if number in wanted)


def _text(data: mmap.mmap, span: Span) -> str:
    return data[slice(*span)].decode("utf-8", "replace")


def _check_graph(data: mmap.mmap, span: Span, known: _Known, path: Path) -> None:
    for tensor in _spans(data, span, TENSOR):
        name = next((_text(data, at) for at in _spans(data, tensor, TENSOR_NAME)), "")
        known.tensors[name] = _told(data, tensor, name, known, path)
        known.constants.add(name)
    for tensor in _spans(data, span, SPARSE):
        _check_made(product(numbers_of(data, tensor, SPARSE_DIMS)), "a sparse tensor", known, path)
    for number, port in fields_of(data, span):
        if number not in (INPUT, OUTPUT):
            continue
        name = next((_text(data, at) for at in _spans(data, port, NAME)), "")
        count = product(_sides(data, port))
        if count > MOST_VALUES:
            raise too_large(f"'{name}' has sides of {count:.3g} values, more than {MOST_VALUES}", path)
        if number == INPUT and (dims := _dims(data, port)) is not None:
            known.tensors.setdefault(name, Told(sides=dims))
    for node in _spans(data, span, NODE):
        _check_node(data, node, known, path)


def _sides(data: mmap.mmap, port: Span) -> list[int]:
    """The sides of an input or output that are not left open."""
    return [side for place in _places_of_sides(data, port) for side in numbers_of(data, place, 1)]


def _dims(data: mmap.mmap, port: Span) -> tuple[float, ...] | None:
    """All sides of an input; None where one is left open, or none is told."""
    sides = [next(iter(numbers_of(data, place, 1)), 0) for place in _places_of_sides(data, port)]
    return tuple(map(float, sides)) if sides and min(sides) > 0 else None


def _places_of_sides(data: mmap.mmap, port: Span) -> list[Span]:
    found = [port]
    for number in (2, 1, 2, 1):  # its type, that of a tensor, its shape, the sides
        found = [inner for outer in found for inner in _spans(data, outer, number)]
    return found


def _check_node(data: mmap.mmap, node: Span, known: _Known, path: Path) -> None:
    fields = list(fields_of(data, node))
    takes, gives = ([_text(data, at) for number, at in fields if number == wanted] for wanted in (TAKES, GIVES))
    kind = next((_text(data, at) for number, at in fields if number == KIND), "")
    attributes: dict[str, Any] = {}
    for number, at in fields:
        if number == ATTRIBUTE:
            attributes |= _attribute(data, at, known, path)
    has_graph = any(isinstance(value, _Known) for value in attributes.values())  # which may take what the node does not name
    is_constant = kind == "Constant" or (any(takes) and known.constants.issuperset(takes) and not has_graph)
    if is_constant:
        known.constants.update(gives)
    tensors = [known.tensors.get(name) for name in takes]
    found = _constant(attributes) if kind == "Constant" else given(kind, tensors, attributes)
    what = f"{kind} '{gives[0] if gives else ''}'"
    sizes = [place for place in SIZED.get(kind, ()) if found is None and place < len(takes) and takes[place]]
    if any(takes[place] in known.constants and ((one := tensors[place]) is None or one.values is None) for place in sizes):
        raise too_large(f"{what} is told how much to make by constants that cannot be followed here", path)
    if found is None or not gives:
        known.all_followed &= not is_constant
        return
    if kind in MAKERS or (is_constant and kind != "Constant" and found.count > sum(each.count for each in tensors if each is not None)):
        _check_made(found.count, what, known, path)
    elif found.count > MOST_VALUES:
        raise too_large(f"{what} makes {found.count:.3g} values, more than {MOST_VALUES}", path)
    known.tensors[gives[0]] = found


def _constant(attributes: Mapping[str, Any]) -> Told | None:
    if isinstance(found := attributes.get("value"), Told):
        return found
    name = next((name for name in ("value_ints", "value_floats", "value_int", "value_float") if attributes.get(name)), "")
    if not name:
        return None
    values = np.asarray(attributes[name] if name.endswith("s") else attributes[name][0])
    return Told(sides=tuple(map(float, values.shape)), values=values if values.size <= MOST_KNOWN else None)


def _attribute(data: mmap.mmap, span: Span, known: _Known, path: Path) -> dict[str, Any]:
    """Its numbers, its tensor or what its graph knows, by its name; graphs are checked."""
    name = next((_text(data, at) for at in _spans(data, span, NAME)), "")
    found: dict[str, Any] = {}
    for number, at in fields_of(data, span):
        if number in (OF_GRAPH, GRAPHS):
            found[name] = inside = known.inside()
            _check_graph(data, at, inside, path)
            known.take_over(inside)
        elif number == OF_TENSOR:
            found[name] = _told(data, at, name, known, path)
        elif number in (OF_SPARSE, SPARSES):
            _check_made(product(numbers_of(data, at, SPARSE_DIMS)), "a sparse tensor", known, path)
    if numbers := [*numbers_of(data, span, WHOLE), *numbers_of(data, span, WHOLES)]:
        found[name] = numbers
    elif reals := b"".join(data[slice(*at)] for at in _spans(data, span, FLOAT, REALS)):
        found[name] = np.frombuffer(reals[: len(reals) // 4 * 4], "<f4").astype(np.float64).tolist()
    return found


def _told(data: mmap.mmap, span: Span, name: str, known: _Known, path: Path) -> Told:
    sides = numbers_of(data, span, DIMS)
    count = product(sides)
    is_inside = not any(True for _ in _spans(data, span, ELSEWHERE))
    if is_inside and count > DENSER * (span[1] - span[0]):
        _check_made(count, f"tensor '{name}', whose values are not in the file,", known, path)
    values = _values(data, span) if is_inside and count <= MOST_KNOWN else None
    fits = values is not None and values.size == math.prod(sides)
    return Told(sides=tuple(map(float, sides)), values=values.reshape(sides) if values is not None and fits else None)


def _values(data: mmap.mmap, span: Span) -> NDArray[Any]:
    kind = (numbers_of(data, span, TYPE) or [0])[0]
    packed = {RAW: TYPES.get(kind), FLOATS: "<f4", DOUBLES: "<f8"}
    for number, at in fields_of(data, span):
        form = packed.get(number)
        if form is not None and (at[1] - at[0]) % np.dtype(form).itemsize == 0:
            found = np.frombuffer(data[slice(*at)], form)
            return found.astype(np.int64 if found.dtype.kind in "iub" else np.float64)
    return np.array(numbers_of(data, span, INT64S) or numbers_of(data, span, INT32S), np.int64)


def _check_made(count: float, what: str, known: _Known, path: Path) -> None:
    known.made += count
    if known.made > MOST_MADE:
        raise too_large(f"{what} makes {count:.3g} values of a shape alone; a file may make {MOST_MADE} in all", path)


def too_large(reason: str, path: Path) -> CheckpointError:
    """The error for a file that asks for more memory than any network here needs."""
    return CheckpointError(
        f"model asks for more memory than it may: {path}", reason=reason, to_mend="do not run a model that you do not trust"
    )
