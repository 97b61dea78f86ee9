"""The arithmetic of alternatives measured in turn."""

import pytest

from vidkd.bench.performance.rows import ratio_row, spread, value_row


@pytest.mark.parametrize(
    ("bound", "target", "met"),
    [
        ({"at_least": 2.0}, ">= 2", True),
        ({"at_least": 2.1}, ">= 2.1", False),
        ({"at_most": 2.0}, "<= 2", True),
        ({"at_most": 1.9}, "<= 1.9", False),
    ],
)
def test_the_median_ratio_is_held_against_the_target(bound: dict[str, float], target: str, met: bool) -> None:
    row = ratio_row("x / y", [2.0, 30.0, 1.0], [2.0, 10.0, 0.5], **bound)
    assert (row["median"], row["target"], row["met"]) == (2.0, target, met)


def test_ratios_pair_rounds_not_medians() -> None:
    # medians 2 and 2 would give 1
    assert ratio_row("x / y", [1.0, 2.0, 9.0], [2.0, 8.0, 1.0])["median"] == 0.5
    with pytest.raises(ValueError, match="zip"):
        ratio_row("x / y", [1.0, 2.0], [1.0])


def test_value_rows() -> None:
    assert value_row("a", "s", [3.0, 1.0, 2.00004]) == {"name": "a", "unit": "s", "median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    assert value_row("a", "s", [0.2], at_most=0.1)["met"] is False
    assert spread([0.000123456])["median"] == 0.0001235
    with pytest.raises(ValueError, match="no values"):
        spread([])
