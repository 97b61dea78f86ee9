"""Whether a network computes with finite numbers at all, asked before a file of it takes its name: no other format would mend that."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidkd.base.errors import ConfigError

SHOWN = 4
MEND = "an earlier checkpoint, or train it again with a lower learning rate (optim.lr)"


def check_weights(net: nn.Module, named: Path | str | None = None) -> None:
    """Raise ConfigError for weights or statistics that are NaN or infinite, naming them. named: where the network was read from."""
    bad = [name for name, values in net.state_dict().items() if not torch.isfinite(values).all()]
    if bad:
        weights = ", ".join(bad[:SHOWN]) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
        raise ConfigError("weights of the network are no finite numbers", **_where(named), weights=weights, hint=MEND)


def check_outputs(values: Iterable[NDArray[Any]], source: str, named: Path | str | None = None) -> None:
    """Raise ConfigError for outputs that are NaN or infinite. source: what the network was run on, in words."""
    if not all(np.isfinite(each).all() for each in values):
        reason = "its weights are finite, and what they give is not"
        raise ConfigError("outputs of the network are no finite numbers", **_where(named), on=source, reason=reason, hint=MEND)


def _where(named: Path | str | None) -> dict[str, object]:
    return {} if named is None else {"where": named}
