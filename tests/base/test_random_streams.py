"""Streams of random numbers by purpose and place."""

import itertools

from vidkd.base.random_streams import derived_seed, random_stream


def test_a_stream_is_a_function_of_seed_purpose_and_place() -> None:
    numbers = random_stream(3, "sample", 1, 2).random(4)
    assert (numbers == random_stream(3, "sample", 1, 2).random(4)).all()
    assert derived_seed(0, "sample", 1) == 3283610663693248441, "runs resume with other versions of vidkd"


def test_streams_of_unlike_seeds_purposes_or_places_are_unlike() -> None:
    """Numpy's own list of numbers does not tell [1, 2] from [1, 2, 0]."""
    places = [(), (0,), (0, 0), (7,), (7, 0), (0, 7), (1, 2), (12,)]
    seeds = {derived_seed(seed, purpose, *place) for seed, purpose, place in itertools.product(range(3), ("sample", "shuffle"), places)}
    assert len(seeds) == 3 * 2 * len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
