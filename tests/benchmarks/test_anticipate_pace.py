"""What `anticipate` is held against in the benchmark."""

from benchmarks.anticipate import slower_of
from benchmarks.rounds import ratio_row


def test_each_round_is_held_against_its_own_slower_half() -> None:
    decode, model, whole = [100.0, 50.0, 100.0], [200.0, 200.0, 40.0], [95.0, 40.0, 38.0]
    assert slower_of(decode, model) == [100.0, 50.0, 40.0]
    row = ratio_row("whole / slower", whole, slower_of(decode, model), at_least=0.9)
    assert (row["median"], row["min"], row["max"], row["met"]) == (0.95, 0.8, 0.95, True)
