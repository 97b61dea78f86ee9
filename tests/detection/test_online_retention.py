import io

import pytest
import torch

from vidkd.detection.online.update import MEMORY, Retention


def retention(retain=1.0):
    return Retention([torch.tensor([1.0, 2.0]), torch.tensor(0.0)], retain)


def assert_weights(found, *expected):
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.tensor(two))


HERE = (torch.tensor([3.0, -2.0]), torch.tensor(4.0))


def test_a_share_lies_between_the_beginning_and_now():
    found = retention()
    assert_weights(found.at(0.0, [*HERE]), [1.0, 2.0], 0.0)
    assert_weights(found.at(0.25, [*HERE]), [1.5, 1.0], 1.0)
    here = [*HERE]
    assert found.at(1.0, here) is here


def test_an_update_leaves_the_constant_share_times_the_running_mean_of_those_chosen():
    found = retention(retain=0.5)
    found.chosen(0.0)  # nothing had been learned
    assert_weights(found.after_update([*HERE]), [2.0, 0.0], 2.0)
    found.chosen(0.0)
    assert_weights(found.after_update([*HERE]), [1 + MEMORY, 2 - 2 * MEMORY], 2 * MEMORY)
    found.chosen(0.5)
    mean = MEMORY * MEMORY + (1 - MEMORY) * 0.5
    assert_weights(found.after_update([*HERE]), [1 + mean, 2 - 2 * mean], 2 * mean)


def test_without_a_share_an_update_leaves_all():
    here = [*HERE]
    assert Retention([], 1.0).after_update(here) is here


def test_state_through_a_file_goes_on_alike():
    first = retention(retain=0.9)
    first.after_update([*HERE])
    first.chosen(0.25)
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = Retention([torch.zeros(2), torch.ones(())], 0.9)
    second.restore(torch.load(file, weights_only=True))
    for one, two in zip(first.after_update([*HERE]), second.after_update([*HERE]), strict=True):
        assert torch.equal(one, two)


def test_weights_of_another_network_are_no_state_of_this_one():
    with pytest.raises(ValueError, match="zip"):
        Retention([torch.zeros(2)], 0.9).restore(retention().state())
