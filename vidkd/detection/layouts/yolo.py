"""YOLO text: images/**/<name>.jpg, labels/**/<name>.txt with rows `class cx cy w h` in shares of the image; data.yaml or classes.txt.

The form that Ultralytics documents (https://docs.ultralytics.com/datasets/detect/): a label file's path is the image's with the last folder
`images` replaced by `labels`. An empty label file says that nothing is there; an image without one is not annotated and left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import read_lines, relative
from vidkd.detection.layouts.common import Box, Reading, image_size, images_in, labelled_frame, not_found

EXPECTED = "images/[<subset>/]*.jpg (or <subset>/images/), labels/ next to images/, and data.yaml or classes.txt"
SLACK = 1e-3  # boxes computed in float32 leave the image by a little
_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def read(root: Path, _: Sequence[Path]) -> Reading:
    """Subsets are those of data.yaml, else the folders train, val (valid), test of or around images/, else none."""
    config = _config(root)
    classes = _classes(root, config)
    frames = []
    for subset, images in _images(root, config).items():
        for image in images:
            labels = Path(*_in_labels(image)).with_suffix(".txt")
            if labels.is_file():
                width, height = image_size(image)
                boxes = [_box(where, line, width, height, len(classes)) for where, line in read_lines(labels)]
                frames.append(labelled_frame(str(labels), relative(image, root), (width, height), boxes, subset=subset))
    return classes, frames


def _config(root: Path) -> dict[str, Any]:
    """The content of data.yaml, or of a file with another of its names."""
    file = next((root / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (root / name).is_file()), None)
    try:
        content = {} if file is None else yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"not a YAML file: {file}", reason=error) from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a map of keys")
    return content


def _classes(root: Path, config: Mapping[str, Any]) -> list[str]:
    names = config.get("names")
    if names is None:
        file = next((root / name for name in ("classes.txt", "labels/classes.txt", "obj.names") if (root / name).is_file()), None)
        names = [line for _, line in read_lines(file)] if file else []
    if isinstance(names, dict):
        names = [names[number] for number in range(len(names)) if number in names] if 0 in names else []
    if not names:
        raise not_found(root, EXPECTED, "no names of classes (in data.yaml a list, or a map from 0, 1, ... to names)")
    return list(map(str, names))


def _images(root: Path, config: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Subset -> images; "" for those of no subset."""
    named = {subset: config[subset] for subset in _FOLDERS if config.get(subset)}
    if named:
        bases = [root / str(config.get("path") or "."), root]  # `path` is often that of another machine
        places = {subset: value if isinstance(value, list) else [value] for subset, value in named.items()}
        return {subset: [image for place in each for image in _listed(str(place), bases)] for subset, each in places.items()}
    found = {
        subset: [image for name in names for folder in (f"images/{name}", f"{name}/images") for image in images_in(root / folder)]
        for subset, names in _FOLDERS.items()
    }
    return {subset: images for subset, images in found.items() if images} or {"": images_in(root / "images")}


def _listed(place: str, bases: Sequence[Path]) -> list[Path]:
    """The images of a folder of the data set, or those that a text file lists, one a line."""
    root = bases[-1]
    names = (place, place.removeprefix("../"))  # as Roboflow writes it
    target = next((base / name for base in bases for name in names if (base / name).exists()), root)
    images: list[Path] = []
    if inside := root.resolve() in target.resolve().parents:
        images = images_in(target) if target.is_dir() else [target.parent / line for _, line in read_lines(target)]
    if not inside or not all(root in image.parents for image in images):
        raise DataError(f"data.yaml names a place that is not in the data set: {place}", looked_in=root, hint="give relative paths")
    return images


def _in_labels(image: Path) -> Sequence[str]:
    """The parts of an image's path with the last folder `images` replaced by `labels`."""
    folders = image.parts[:-1]
    last = max((place for place, folder in enumerate(folders) if folder == "images"), default=None)
    return image.parts if last is None else (*folders[:last], "labels", *image.parts[last + 1 :])


def _box(where: str, line: str, width: int, height: int, classes: int) -> Box:
    try:
        label, cx, cy, w, h = (float(part) for part in line.split())
    except ValueError:
        raise DataError(f"{where}: not `class cx cy w h`: {line[:60]!r}", hint="outlines of segments are not read as boxes") from None
    if label not in range(classes):
        raise DataError(f"{where}: class {label:g} is out of range", hint=f"use 0 to {classes - 1}, in the order of the names")
    if not all(-SLACK <= side <= 1 + SLACK for side in (cx, cy, w, h)):
        raise DataError(f"{where}: values must lie in 0 to 1, found {line[:60]!r}", hint="divide pixels by the size of the image")
    return Box(((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height), int(label))
