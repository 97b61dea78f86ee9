"""Random streams that never collide: each is derived from the seed of a run, a purpose in words, and a place within it."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derived_seed(seed: int, purpose: str, *place: int) -> int:
    """A number in [0, 2^63), the same only for the same seed, purpose ("shuffle labelled") and place (an epoch, a step, a rank)."""
    text = "/".join(map(str, (purpose, seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def random_stream(seed: int, purpose: str, *place: int) -> "np.random.Generator":
    """The generator of `derived_seed`."""
    import numpy as np

    return np.random.default_rng(derived_seed(seed, purpose, *place))
