"""The metadata that a model's file carries as JSON text, read as what a stranger may have written."""

import json
from typing import Any

from vidkd.base.errors import ConfigError

MOST_TEXT = 2**20
"""Characters of metadata; more are no metadata of ours."""
EXPORT_AGAIN = "export the checkpoint again: vidkd export --help"


def embedded_content(text: str, path: str) -> Any:
    """Plain values of the metadata in the file `path`. Raises ConfigError naming it if they are too large, too deep, or no JSON."""
    if len(text) > MOST_TEXT:
        raise ConfigError(f"metadata of {len(text)} characters, {MOST_TEXT} are allowed", where=f"{path} (embedded)")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"embedded metadata cannot be read: {path}", reason=error, to_mend=EXPORT_AGAIN) from error
