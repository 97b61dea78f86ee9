import math

import pytest
import torch

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.losses.selection import disagreement_huber
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig, selector_from, selector_input, selector_payload


def selector(features=3, units=7, layers=1, seed=0):
    torch.manual_seed(seed)
    return KeyFrameLSTM(SelectorConfig(features=features, units=units, layers=layers)).eval()


@pytest.mark.parametrize("layers", [1, 2])
def test_step_by_step_equals_the_whole_sequence(layers):
    model, sequence = selector(layers=layers), torch.randn(3, 11, 8)
    whole, last = model(sequence)
    state, steps = None, []
    for t in range(11):
        value, state = model.step(sequence[:, t], state)
        steps.append(value)
    torch.testing.assert_close(torch.stack(steps, 1), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)
    assert whole.shape == (3, 11)


def test_a_sequence_in_two_halves_goes_on_from_the_state():
    model, sequence = selector(), torch.randn(2, 9, 8)
    first, state = model(sequence[:, :4])
    second, _ = model(sequence[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), model(sequence)[0], atol=1e-6, rtol=1e-5)


def test_a_frame_is_not_changed_by_those_after_it_but_by_those_before():
    model, sequence = selector(), torch.randn(1, 6, 8)
    changed = sequence.clone()
    changed[:, 3] += 1
    difference = (model(changed)[0] - model(sequence)[0]).abs()[0]
    assert (difference[:3] == 0).all()
    assert (difference[3:] > 1e-6).all()


def test_normalisation_is_that_of_the_training_frames():
    model, raw = selector(), torch.randn(400, 8) * torch.tensor([1.0, 50, 1e-3, 2, 3, 4, 5, 6]) + 100
    model.fit_normalisation(raw)
    normalised = (raw - raw.mean(0)) / raw.std(0, correction=0)
    plain = selector()
    torch.testing.assert_close(model(raw[None])[0], plain(normalised.clamp(-10, 10)[None])[0], atol=1e-3, rtol=1e-3)
    assert set(dict(model.named_buffers())) == {"mean", "deviation"}


def test_an_entry_that_never_varied_is_shifted_only():
    model, raw = selector(), torch.randn(50, 8)
    raw[:, 2] = 0.1
    model.fit_normalisation(raw)
    assert float(model.mean[2]) == pytest.approx(0.1)
    assert float(model.deviation[2]) == 1


def test_what_lies_ten_deviations_off_counts_as_ten():
    model = selector()
    far, farther = torch.full((1, 2, 8), 10.0), torch.full((1, 2, 8), 1e6)
    torch.testing.assert_close(model(far)[0], model(farther)[0])


def test_the_input_of_a_frame():
    features = torch.tensor([[1.0, 2], [3, 4]])
    signals = {"last_loss": torch.tensor([0.5, 0.25]), "motion": torch.tensor([0.0, 9]), "doubt": torch.tensor([0.1, 0.6])}
    made = selector_input(features, frames_since=torch.tensor([0, 7]), boxes=torch.tensor([3, 0]), **signals)
    torch.testing.assert_close(made, torch.tensor([[1, 2, 0, 0.5, 0, 0.1, math.log(4)], [3, 4, math.log(8), 0.25, 9, 0.6, 0]]))


def test_what_the_lstm_does_not_see_changes_nothing():
    torch.manual_seed(0)
    model, sequence = KeyFrameLSTM(SelectorConfig(features=3, units=6, sees_features=False)).eval(), torch.randn(2, 5, 8)
    changed = sequence.clone()
    changed[..., :3] += 7
    assert torch.equal(model(changed)[0], model(sequence)[0])
    changed[..., 3] += 1
    assert not torch.equal(model(changed)[0], model(sequence)[0])
    assert selector_from(selector_payload(model)).config == model.config


def test_a_payload_comes_back_through_a_file_that_holds_plain_values_and_tensors(tmp_path):
    model = selector(layers=2)
    model.fit_normalisation(torch.randn(30, 8) + 3)
    torch.save(selector_payload(model), tmp_path / "selector.pt")
    again = selector_from(torch.load(tmp_path / "selector.pt", weights_only=True))
    sequence = torch.randn(2, 4, 8)
    assert torch.equal(again(sequence)[0], model(sequence)[0])
    assert again.config == model.config
    assert not again.training


def test_learns_what_only_a_memory_knows():
    """The disagreement is the motion of two frames before; a network without memory stays at the variance of it."""
    torch.manual_seed(0)
    model = KeyFrameLSTM(SelectorConfig(features=2, units=24))
    sequence = torch.rand(8, 16, 7)
    model.fit_normalisation(sequence.flatten(0, 1))
    truth = torch.cat([torch.full((8, 2), math.nan), sequence[:, :-2, 4]], 1)
    counts = ~truth.isnan()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        disagreement_huber(model(sequence)[0], truth, mask=counts).backward()
        optimiser.step()
    left = (model(sequence)[0] - truth)[counts].square().mean().item()
    assert left < 0.2 * truth[counts].var().item()


def test_numbers_that_are_not_finite_are_no_normalisation():
    with pytest.raises(ValueError, match="not finite"):
        selector().fit_normalisation(torch.full((3, 8), math.nan))


def test_a_size_that_is_none():
    with pytest.raises(ConfigError, match=r"selector\.units must be at least 1, not 0"):
        SelectorConfig(features=3, units=0)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"features": 6, "units": 7, "layers": 1}},
        {"config": {"features": 5, "cells": 7}},
        {"config": {"features": 0}},
        {"state": {}},
    ],
)
def test_a_payload_of_something_else(change):
    with pytest.raises(CheckpointError, match="not a key-frame selector"):
        selector_from({**selector_payload(selector()), **change})


def test_a_payload_without_its_parts():
    with pytest.raises(CheckpointError, match="KeyError"):
        selector_from({"weights": {}})
