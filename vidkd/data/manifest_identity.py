"""What a manifest says, as a short hash: whether two runs have seen the same data, wherever these lie."""

import dataclasses
import hashlib
import json

from vidkd.data.manifest import Clip, Manifest


def manifest_identity(manifest: Manifest) -> dict[str, str]:
    """Name and SHA-256 of what a manifest says (classes, splits, rows, whether clips may be flipped), wherever it lies."""
    rows = [
        {name: value for name, value in vars(clip).items() if name not in _DEFAULTS or value != _DEFAULTS[name]} for clip in manifest.clips
    ]
    content = [list(manifest.classes), list(manifest.splits), manifest.horizontal_flip, rows]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=dict)
    return {"name": manifest.name, "sha256": hashlib.sha256(text.encode()).hexdigest()}


_DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(Clip) if entry.default is not dataclasses.MISSING}
