"""PASCAL VOC's XML of one image, read without ever opening an entity."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from vidkd.base.errors import DataError


@dataclass(frozen=True, kw_only=True)
class VocObject:
    """One object: corners x1 y1 x2 y2 in pixels, edges of the whole picture 0, 0, width, height."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass(frozen=True, kw_only=True)
class VocPicture:
    """What a file says of one image. size: (width, height), None where it is not told or 0."""

    filename: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_voc_xml(path: Path) -> VocPicture:
    """Read and check a file. Raises DataError with file and line for what is wrong, and for a document type, which could hold entities.

    VOC counts pixels from 1 and includes the last one, so pixels xmin to xmax are the interval xmin - 1 to xmax.
    """
    tree, lines = _parse(path)
    if tree.tag != "annotation":
        raise DataError(f"{path}:1: <annotation> expected, found <{tree.tag}>")
    return VocPicture(
        filename=(tree.findtext("filename") or "").strip(),
        size=_size(tree, path, lines),
        objects=tuple(_objects(tree, path, lines)),
    )


def _parse(path: Path) -> tuple[Element, dict[Element, int]]:
    """The tree and the line of every element."""
    parser, builder, lines = expat.ParserCreate(), TreeBuilder(), {}

    def refuse(*_: Any) -> None:
        raise DataError(f"{path}:{parser.CurrentLineNumber}: a document type (<!DOCTYPE>) is refused", hint="take the line out")

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, builder.end, builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataError(f"{path}:{error.lineno}: not XML", reason=expat.ErrorString(error.code)) from None
    return builder.close(), lines


def _size(tree: Element, path: Path, lines: dict[Element, int]) -> tuple[int, int] | None:
    size = tree.find("size")
    if size is None:
        return None
    width, height = (_number(size, side, path, lines) for side in ("width", "height"))
    return (int(width), int(height)) if width >= 1 and height >= 1 else None


def _objects(tree: Element, path: Path, lines: dict[Element, int]) -> Iterator[VocObject]:
    for item in tree.findall("object"):
        where = f"{path}:{lines[item]}"
        name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
        if not name or box is None:
            raise DataError(f"{where}: <object> without {'<bndbox>' if name else '<name>'}")
        x1, y1, x2, y2 = (_number(box, side, path, lines) for side in ("xmin", "ymin", "xmax", "ymax"))
        difficult = (item.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            raise DataError(f"{where}: <difficult> must be 0 or 1, found {difficult!r}")
        yield VocObject(name=name, corners=(x1 - 1, y1 - 1, x2, y2), difficult=difficult == "1", where=where)


def _number(parent: Element, name: str, path: Path, lines: dict[Element, int]) -> float:
    child = parent.find(name)
    text = "" if child is None else (child.text or "").strip()
    try:
        return float(text)
    except ValueError:
        line = lines[parent if child is None else child]
        raise DataError(f"{path}:{line}: <{name}> must be a number", found=text or "nothing") from None
