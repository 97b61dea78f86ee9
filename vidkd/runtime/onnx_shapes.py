"""What a node of an ONNX graph gives, as far as the sides and short values of what it takes tell it: shapes, and arithmetic on shapes.

It allocates nothing large: values are worked out where there are MOST_KNOWN of them at most, sides wherever they are known.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_KNOWN = 64
"""Values of a tensor up to which it may be a shape."""
WHOLE_TYPES = (2, 3, 4, 5, 6, 7, 9, 12, 13)
"""Of tensors that hold whole numbers, or true and false, as ONNX counts types."""

Sides = tuple[float, ...]
Values = NDArray[Any]
Attributes = Mapping[str, Any]
"""Whole numbers (a list, of one too) and short tensors by the name of the attribute."""

MATCHED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda one, other: one // other if one.dtype.kind == other.dtype.kind == "i" else one / other,
    "Mod": np.mod,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
    "Sum": np.add,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
"""Kinds whose inputs are broadcast against each other."""
EACH: dict[str, Callable[..., Any]] = {
    "Identity": np.asarray,
    "Neg": np.negative,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
}
AS_FIRST = (*EACH, "Cast", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Clip", "DequantizeLinear", "QuantizeLinear", "Softmax")
"""Kinds whose output has the sides of the first input."""
REDUCED: dict[str, Callable[..., Any]] = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}
RESHAPED = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, eq=False, kw_only=True)
class Told:
    """A tensor. sides: floating point, for a file may name sides whose product no integer type holds. values: where there are few."""

    sides: Sides
    values: Values | None = None

    @property
    def count(self) -> float:
        """How many values it has."""
        return product(self.sides)


def product(sides: Sequence[float]) -> float:
    """Open sides (0, -1) count as one."""
    return math.prod(max(1.0, float(side)) if math.isfinite(side) else math.inf for side in sides)


def given(kind: str, takes: Sequence[Told | None], attributes: Attributes) -> Told | None:
    """The first output of a node; None where what is known does not tell its sides. takes: None for what is not known or not there."""
    try:
        with np.errstate(all="ignore"):
            sides = _sides(kind, takes, attributes)
            if sides is None:
                return None
            values = _values(kind, takes, attributes, sides) if product(sides) <= MOST_KNOWN else None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError):  # a file that fits nowhere is none to follow
        return None
    is_whole = values is not None and values.dtype.kind in "iub"
    return Told(sides=sides, values=None if values is None else values.astype(np.int64 if is_whole else np.float64))


def _sides(kind: str, takes: Sequence[Told | None], attributes: Attributes) -> Sides | None:
    if kind in SHAPES:
        return SHAPES[kind](takes, attributes)
    there = [each for each in takes if each is not None]
    if kind in AS_FIRST:
        return _first(takes).sides
    if kind not in (*MATCHED, "Where", "PRelu") or len(there) < len(takes):
        return None
    return reduce(broadcast, [each.sides for each in there])


def broadcast(one: Sides, other: Sides) -> Sides:
    """Sides of two tensors that are matched from the last one on. Raises ValueError where they do not fit."""
    rank = max(len(one), len(other))
    pairs = zip((1.0,) * (rank - len(one)) + one, (1.0,) * (rank - len(other)) + other, strict=True)
    found = []
    for pair in pairs:
        if pair[0] != pair[1] and 1 not in pair:
            raise ValueError("sides do not fit")
        found.append(pair[0] if pair[1] == 1 else pair[1])
    return tuple(found)


def _first(takes: Sequence[Told | None], place: int = 0) -> Told:
    found = takes[place]
    if found is None:
        raise ValueError("not known")
    return found


def _numbers(takes: Sequence[Told | None], place: int) -> list[Any]:
    """The values of an input that must be known."""
    values = _first(takes, place).values
    if values is None:
        raise ValueError("not known")
    return list(values.ravel().tolist())


def _axes(takes: Sequence[Told | None], attributes: Attributes, place: int = 1) -> list[int] | None:
    """From the attribute, as older files have them, or the input."""
    if "axes" in attributes:
        return list(attributes["axes"])
    return [int(axis) for axis in _numbers(takes, place)] if len(takes) > place else None


def _expanded(takes: Sequence[Told | None], _: Attributes) -> Sides:
    to = tuple(map(float, _numbers(takes, 1)))
    return broadcast(takes[0].sides, to) if takes[0] is not None else to


def _tiled(takes: Sequence[Told | None], _: Attributes) -> Sides:
    repeats = _numbers(takes, 1)
    sides = takes[0].sides if takes[0] is not None else (1.0,) * len(repeats)
    return tuple(side * repeat for side, repeat in zip(sides, repeats, strict=True))


def _padded(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    pads = attributes["pads"] if "pads" in attributes else _numbers(takes, 1)
    half = len(pads) // 2
    sides = list(takes[0].sides) if takes[0] is not None else [1.0] * half
    axes = [int(axis) for axis in _numbers(takes, 3)] if len(takes) > 3 else range(len(sides))
    for place, axis in enumerate(axes):
        sides[axis] += pads[place] + pads[half + place]
    return tuple(sides)


def _ranged(takes: Sequence[Told | None], _: Attributes) -> Sides:
    start, end, step = (_numbers(takes, place)[0] for place in range(3))
    return (max(0.0, math.ceil((end - start) / step)) if step else math.inf,)


def _reshaped(takes: Sequence[Told | None], _: Attributes) -> Sides:
    whole = _first(takes)
    sides = [whole.sides[place] if side == 0 else float(side) for place, side in enumerate(_numbers(takes, 1))]
    rest = whole.count / product([side for side in sides if side != -1])
    return tuple(rest if side == -1 else side for side in sides)


def _squeezed(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides, axes = _first(takes).sides, _axes(takes, attributes)
    out = [axis % len(sides) for axis in axes] if axes is not None else [place for place, side in enumerate(sides) if side == 1]
    return tuple(side for place, side in enumerate(sides) if place not in out)


def _unsqueezed(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides, axes = list(_first(takes).sides), _axes(takes, attributes) or []
    for axis in sorted(axis % (len(sides) + len(axes)) for axis in axes):
        sides.insert(axis, 1.0)
    return tuple(sides)


def _flattened(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides, (axis,) = _first(takes).sides, attributes.get("axis", [1])
    return product(sides[:axis]), product(sides[axis:])


def _transposed(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides = _first(takes).sides
    return tuple(sides[place] for place in attributes["perm"]) if "perm" in attributes else sides[::-1]


def _joined(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    parts, (axis,) = [_first(takes, place).sides for place in range(len(takes))], attributes["axis"]
    sides = list(parts[0])
    sides[axis] = sum(part[axis] for part in parts)
    return tuple(sides)


def _gathered(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides, axis = _first(takes).sides, attributes.get("axis", [0])[0] % len(_first(takes).sides)
    return (*sides[:axis], *_first(takes, 1).sides, *sides[axis + 1 :])


def _slices(takes: Sequence[Told | None], attributes: Attributes) -> list[slice]:
    def numbers(place: int, name: str) -> list[int] | None:
        if name in attributes:
            return list(attributes[name])
        return [int(value) for value in _numbers(takes, place)] if len(takes) > place else None

    starts, ends = numbers(1, "starts") or [], numbers(2, "ends") or []
    axes, steps = numbers(3, "axes") or range(len(starts)), numbers(4, "steps") or [1] * len(starts)
    found = [slice(None)] * len(_first(takes).sides)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        found[axis] = slice(start, None if step < 0 and end < -(2**31) else end, step)
    return found


def _sliced(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    parts = zip(_first(takes).sides, _slices(takes, attributes), strict=True)
    return tuple(float(len(range(*part.indices(int(side))))) for side, part in parts)


def _reduced(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    sides, axes = _first(takes).sides, _axes(takes, attributes)
    out = range(len(sides)) if not axes else [axis % len(sides) for axis in axes]
    keep = attributes.get("keepdims", [1])[0]
    return tuple(1.0 if place in out else side for place, side in enumerate(sides) if keep or place not in out)


def _multiplied(takes: Sequence[Told | None], _: Attributes) -> Sides:
    one, other = _first(takes).sides, _first(takes, 1).sides
    return (*broadcast(one[:-2], other[:-2]), *one[-2:-1], *(other[-1:] if len(other) > 1 else ()))


def _asked(takes: Sequence[Told | None], attributes: Attributes) -> Sides:
    """The sides that a node asks for."""
    start, end = (attributes.get(name, [default])[0] for name, default in (("start", 0), ("end", None)))
    return _first(takes).sides[start:end]


def _marked(takes: Sequence[Told | None], _: Attributes) -> Sides:
    return (*_first(takes).sides, float(_numbers(takes, 1)[0]))


def _resized(takes: Sequence[Told | None], _: Attributes) -> Sides | None:
    """By the last input that is there: sizes, or scales of what there is."""
    found = [(place, each.values) for place, each in enumerate(takes) if place and each is not None and each.values is not None]
    place, values = next(((place, values) for place, values in reversed(found) if values.size), (0, np.zeros(0)))
    if not place:
        return None
    numbers = values.ravel().tolist()
    sides = takes[0].sides if takes[0] is not None else (1.0,) * len(numbers)
    return tuple(map(float, numbers)) if place == 3 else tuple(side * scale for side, scale in zip(sides, numbers, strict=True))


SHAPES: dict[str, Callable[[Sequence[Told | None], Attributes], Sides | None]] = {
    "ConstantOfShape": lambda takes, _: tuple(map(float, _numbers(takes, 0))),
    "Expand": _expanded,
    "Tile": _tiled,
    "Pad": _padded,
    "Range": _ranged,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Flatten": _flattened,
    "Transpose": _transposed,
    "Concat": _joined,
    "Gather": _gathered,
    "Slice": _sliced,
    **dict.fromkeys((*REDUCED, "ReduceMean", "ReduceL2"), _reduced),
    "MatMul": _multiplied,
    "OneHot": _marked,
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow"), lambda takes, _: (float(_numbers(takes, 0)[0]),)),
    **dict.fromkeys(("RandomNormal", "RandomUniform"), lambda _, attributes: tuple(map(float, attributes["shape"]))),
    "Shape": lambda takes, attributes: (float(len(_asked(takes, attributes))),),
    "Size": lambda *_: (),
}


def _values(kind: str, takes: Sequence[Told | None], attributes: Attributes, sides: Sides) -> Values | None:
    """The few values of an output with these sides, where all that they are made of is known."""
    shape = tuple(map(int, sides))
    if kind == "Shape":
        return np.array(_asked(takes, attributes), np.int64)
    if kind == "Size":
        return np.array(_first(takes).count, np.int64)
    if kind == "ConstantOfShape":
        filled = attributes.get("value", Told(sides=(1.0,), values=np.zeros(1, np.int64))).values
        return None if filled is None else np.full(shape, filled.ravel()[0])
    if any(each is None or each.values is None for each in takes):
        return None
    values = [each.values for each in takes if each is not None and each.values is not None]
    if kind in MATCHED:
        return np.asarray(reduce(MATCHED[kind], values))
    if kind in EACH:
        return np.asarray(EACH[kind](values[0]))
    if kind in REDUCED:
        axes = _axes(takes, attributes)
        return np.asarray(REDUCED[kind](values[0], axis=tuple(axes) if axes else None)).reshape(shape)
    return _arranged(kind, values, takes, attributes, shape)


def _arranged(
    kind: str, values: Sequence[Values], takes: Sequence[Told | None], attributes: Attributes, shape: tuple[int, ...]
) -> Values | None:
    """Values that are there already, in another place or of another type."""
    ways: dict[str, Callable[[], Values]] = {
        "Cast": lambda: values[0].astype(np.int64 if attributes["to"][0] in WHOLE_TYPES else np.float64),
        **dict.fromkeys(RESHAPED, lambda: values[0].reshape(shape)),
        "Expand": lambda: np.broadcast_to(values[0], shape),
        "Tile": lambda: np.tile(values[0], values[1].astype(np.int64).tolist()),
        "Transpose": lambda: np.transpose(values[0], attributes.get("perm")),
        "Concat": lambda: np.concatenate(values, axis=attributes["axis"][0]),
        "Gather": lambda: np.take(values[0], values[1].astype(np.int64), axis=attributes.get("axis", [0])[0]),
        "Slice": lambda: values[0][tuple(_slices(takes, attributes))],
        "Range": lambda: np.arange(values[0].item(), values[1].item(), values[2].item()),
        "Where": lambda: np.where(values[0], values[1], values[2]),
    }
    return ways[kind]() if kind in ways else None
