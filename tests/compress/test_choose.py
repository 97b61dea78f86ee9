import pytest
import torch

from vidkd.base.errors import ConfigError
from vidkd.compress.config import PruneConfig
from vidkd.compress.prune import filters_to_remove

SCORES = {"a": torch.tensor([4.0, 1.0, 3.0, 2.0]), "b": torch.tensor([0.1, 0.2, 9.0, 8.0, 7.0, 0.3])}


def test_uniform_takes_the_lowest_of_each_layer() -> None:
    assert filters_to_remove(SCORES, PruneConfig(scope="uniform"), share=0.5) == {"a": [1, 3], "b": [0, 1, 5]}


def test_global_ranks_all_layers_together() -> None:
    assert filters_to_remove(SCORES, PruneConfig(), share=0.4) == {"a": [1], "b": [0, 1, 5]}


def test_global_stops_at_the_most_of_a_layer_and_takes_the_rest_elsewhere() -> None:
    config = PruneConfig(most_of_layer=1 / 3)
    assert filters_to_remove(SCORES, config, share=0.3) == {"a": [1], "b": [0, 1]}


def test_the_most_of_a_layer_holds_over_steps() -> None:
    """Layer b had ten filters, of which four are gone: of six tenths two more may go, and the rest is taken of a."""
    config = PruneConfig(most_of_layer=0.6)
    assert filters_to_remove(SCORES, config, share=0.4, whole={"a": 4, "b": 10}) == {"a": [1, 3], "b": [0, 1]}
    assert filters_to_remove(SCORES, config, share=0.4) == {"a": [1], "b": [0, 1, 5]}
    with pytest.raises(ConfigError, match="only 2 may go"):
        filters_to_remove(SCORES, config, share=0.4, whole={"a": 10, "b": 10})


def test_equal_scores_go_in_order() -> None:
    assert filters_to_remove({"a": torch.zeros(5)}, PruneConfig(scope="uniform"), share=0.4) == {"a": [0, 1]}


@pytest.mark.parametrize(
    ("config", "share", "text"),
    [
        (PruneConfig(scope="uniform"), 0.9, "all 4 filters of a"),
        (PruneConfig(most_of_layer=1), 0.95, "all 4 filters of a"),
        (PruneConfig(most_of_layer=0.5), 0.6, "only 5 may go"),
    ],
)
def test_a_ratio_that_removes_a_whole_layer_is_refused(config: PruneConfig, share: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        filters_to_remove(SCORES, config, share=share)
