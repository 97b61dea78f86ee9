"""YOLO text: images/**/<name>.jpg, labels/**/<name>.txt with rows `class cx cy w h` in shares of the image; data.yaml or classes.txt.

The form that Ultralytics documents (https://docs.ultralytics.com/datasets/detect/): a label file's path is the image's with the last folder
`images` replaced by `labels`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import relative, shortened
from vidkd.data.layouts.lists import read_lines
from vidkd.detection.annotations import LabelledFrame
from vidkd.detection.layouts.common import Box, BoxOptions, BoxReading, bare_frame, finish, image_size, images_in, not_found, with_boxes

EXPECTED = "images/[<subset>/]*.jpg (or <subset>/images/), labels/ next to images/, and data.yaml or classes.txt"
SLACK = 1e-3  # boxes computed in float32 leave the image by a little
_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def read(root: Path, options: BoxOptions) -> BoxReading:
    """Subsets are those of data.yaml, else the folders train, val (valid), test of or around images/, else none.

    An empty label file says that nothing is there. An image without one is not annotated and left out, or empty with `missing_is_empty`.
    """
    config = _config(root)
    classes = _classes(root, config, options)
    left_out: Counter[str] = Counter()
    frames: list[LabelledFrame] = []
    unlabelled: list[str] = []
    gone: list[str] = []
    for subset, images in _images(root, config).items():
        for image in images:
            labels = _label_file(image)
            if options.allow_missing and not image.is_file():
                gone.append(image.name)
            elif labels.is_file() or options.missing_is_empty:
                frames.append(_frame(root, image, labels, subset, classes, left_out))
            else:
                unlabelled.append(relative(image, root))
    notes = [f"{len(unlabelled)} images have no label file and are left out: {shortened(unlabelled)}"] if unlabelled else []
    notes += [f"{len(gone)} files are missing: {shortened(gone)}"] if gone else []
    return finish(root.name or "yolo", root, classes, frames, options, left_out, expected=EXPECTED, notes=notes)


def _config(root: Path) -> dict[str, object]:
    file = next((root / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (root / name).is_file()), None)
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"not a YAML file: {file}", reason=error) from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a map of keys")
    return content


def _classes(root: Path, config: dict[str, object], options: BoxOptions) -> list[str]:
    names = config.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if names is None:
        lists = [root / name for name in ("classes.txt", "labels/classes.txt", "obj.names")]
        file = next((file for file in lists if file.is_file()), None)
        names = [line for _, line in read_lines(file)] if file else list(options.classes)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise not_found("yolo", root, EXPECTED, "no names of classes (in data.yaml a list, or a map from 0, 1, ... to names)")
    return names


def _images(root: Path, config: dict[str, object]) -> dict[str, list[Path]]:
    """Subset -> images; "" for those of no subset."""
    named = {subset: config[subset] for subset in _FOLDERS if config.get(subset)}
    if named:
        base = root / str(config.get("path") or ".")
        bases = [base, root]  # `path` is often that of another machine
        return {subset: [image for place in _as_list(value) for image in _listed(place, bases, root)] for subset, value in named.items()}
    found = {
        subset: [image for name in names for folder in (f"images/{name}", f"{name}/images") for image in images_in(root / folder)]
        for subset, names in _FOLDERS.items()
    }
    found = {subset: images for subset, images in found.items() if images}
    return found or {"": images_in(root / "images")}


def _as_list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _listed(place: str, bases: Sequence[Path], root: Path) -> list[Path]:
    """The images of a folder, or those that a text file lists, one a line."""
    tail = Path(place.removeprefix("../"))  # as Roboflow writes it
    target = next((base / name for base in bases for name in (place, tail) if (base / name).exists()), None)
    if target is None or root.resolve() not in target.resolve().parents:
        raise DataError(f"data.yaml names a place that is not in the data set: {place}", looked_in=root)
    if target.is_dir():
        return images_in(target)
    return [_inside(root, target.parent / line, where) for where, line in read_lines(target)]


def _inside(root: Path, image: Path, where: str) -> Path:
    if root not in image.parents:
        raise DataError(f"{where}: an image outside the data set: {image}", looked_in=root, hint="give paths relative to the list")
    return image


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    for number in range(len(parts) - 2, -1, -1):
        if parts[number] == "images":
            parts[number] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _frame(root: Path, image: Path, labels: Path, subset: str, classes: Sequence[str], left_out: Counter[str]) -> LabelledFrame:
    path = relative(image, root)
    width, height = image_size(image)
    rows = read_lines(labels) if labels.is_file() else []
    boxes = [_box(where, line, width, height, len(classes)) for where, line in rows]
    return with_boxes(bare_frame(path, width, height, group="", subset=subset), boxes, left_out, classes, str(labels))


def _box(where: str, line: str, width: int, height: int, classes: int) -> Box:
    try:
        label, cx, cy, w, h = (float(part) for part in line.split())
    except ValueError:
        raise DataError(f"{where}: not `class cx cy w h`: {line[:60]!r}", hint="outlines of segments are not read as boxes") from None
    if label not in range(classes):
        raise DataError(f"{where}: class {label:g} is out of range", hint=f"use 0 to {classes - 1}, in the order of the names")
    sides = (cx, cy, w, h)
    if not all(math.isfinite(side) and -SLACK <= side <= 1 + SLACK for side in sides):
        raise DataError(f"{where}: values must lie in 0 to 1, found {line[:60]!r}", hint="divide pixels by the size of the image")
    corners = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    return Box(corners=corners, label=int(label))
