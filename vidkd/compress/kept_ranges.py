"""Ranges of activations in a file, so that what was found on the same samples is not found again after an interruption."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidkd.base.errors import DataError
from vidkd.base.extras import require
from vidkd.base.files import read_json, write_json
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.feeds import Feed

log = logging.getLogger(__name__)
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptRanges:
    """A file of ranges. path: where. key: what they were, or would be, found with; another one's are not these."""

    path: Path
    key: str

    def read(self) -> str | None:
        """The quantiser's own text of the ranges; None where there is no file, or it is damaged or of another key, which is logged."""
        if not self.path.exists():
            return None
        try:
            return _ranges_in(read_json(self.path), self.key)
        except (DataError, OSError) as error:
            log.warning("ranges are found anew, not read from %s: %s", self.path, error)
            return None

    def write(self, ranges: str) -> None:
        """Keep them, in place of what was there; where that cannot be written it is logged."""
        try:
            write_json(self.path, {"format": FORMAT, "key": self.key, "ranges": ranges, "sha256": _hash(ranges)})
        except OSError as error:
            log.warning("ranges are not kept in %s: %s", self.path, error.strerror or error)


def _ranges_in(content: object, key: str) -> str:
    """Raises DataError for what is no content of a file of ranges with this key."""
    if not isinstance(content, dict) or set(content) != {"format", "key", "ranges", "sha256"} or content["format"] != FORMAT:
        raise DataError("it is no file of ranges")
    ranges = content["ranges"]
    if not isinstance(ranges, str) or content["sha256"] != _hash(ranges):
        raise DataError("it is damaged")
    if content["key"] != key:
        raise DataError("it is of another network, other samples or settings")
    return ranges


def key_of(graph: bytes, feeds: Sequence[Feed], config: QuantiseConfig) -> str:
    """Hash of all that ranges depend on: the graph, the samples, the settings and the quantiser's version."""
    version = require("onnxruntime", "compress").__version__
    found = hashlib.sha256(json.dumps([version, dataclasses.asdict(config)], sort_keys=True).encode())
    found.update(graph)
    for feed in feeds:
        for name, values in sorted(feed.items()):
            found.update(f"{name} {values.dtype} {values.shape} ".encode())
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
