"""How every session of ONNX Runtime here is set."""

from typing import Any

from vidkd.base.extras import require
from vidkd.runtime.onnx_sizes import MOST_MADE

LARGEST_FOLDED = 4 * MOST_MADE
"""Bytes of a constant that a session may work out when it is made; releases that do not know the option take no notice."""


def session_options(extra: str, *, threads: int = 0) -> Any:
    """Options of a session on so many threads, 0 for as many as ONNX Runtime chooses, which sleep while they wait (see `base.cores`).

    extra: the one of vidkd's extras that the caller needs. Raises MissingExtraError without onnxruntime.
    """
    options = require("onnxruntime", extra).SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: they are raised anyway, and warnings speak of the file's maker
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(LARGEST_FOLDED))
    return options
