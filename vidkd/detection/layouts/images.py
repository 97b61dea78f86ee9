"""Images of a data set: which there are, how large they are once upright, and their pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.video.image_sequence import IMAGE_SUFFIXES

_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values for a picture turned by a quarter


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and those below, sorted; hidden files are none."""
    files = folder.rglob("*") if folder.is_dir() else ()
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file())


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, read from its header alone. Raises DataError if it is no image."""
    with _opened(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE else (width, height)


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of the upright picture. Raises DataError if it is no image or cut off."""
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise for damaged files
            raise DataError(f"damaged image: {path}", reason=error) from None


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except FileNotFoundError:
        raise DataError(f"no such image: {path}") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"not an image: {path}", reason=error) from None
