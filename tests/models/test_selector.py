import math

import pytest
import torch

from vidkd.base.errors import CheckpointError
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
