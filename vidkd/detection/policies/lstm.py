"""The key-frame policy of a trained LSTM: its scores, its file, and what it was trained on."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.files import atomic_write
from vidkd.base.settings import flatten
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy
from vidkd.models.selector import LARGEST_DEVIATION, KeyFrameLSTM, selector_from, selector_payload
from vidkd.models.weights import read_file

KIND = "vidkd key-frame selector"

Memory = tuple[NDArray[np.float32], NDArray[np.float32]]


class LstmSelector(Policy):
    """Score: what the selector predicts for the frame, from this frame and those before it.

    selector: its weights are copied, on whatever device they are. It sees every frame once, called or not.
    Raises ConfigError at the first frame of a student whose features are not as many as the selector was trained for.
    """

    kept = ("_memory",)

    def __init__(self, selector: KeyFrameLSTM) -> None:
        self.selector = selector.eval()
        self._step = SelectorStep(selector)
        self._memory: Memory | None = None

    def start(self, budget: CallBudget) -> None:  # noqa: ARG002 - the budget is kept by whoever reads the scores
        """As `Policy.start`."""
        self._memory = None

    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        expected = self.selector.config.features
        if len(observation.features) != expected:
            raise ConfigError(
                f"the selector was trained for {expected} features of a student, this one has {len(observation.features)}",
                hint="train a selector for this student",
            )
        score, self._memory = self._step(observation_row(observation), self._memory)
        return score


class SelectorStep:
    """`KeyFrameLSTM.step` of one frame in numpy: in torch, most of the time of so small a step is the way in and out.

    Equations of torch.nn.LSTM (gates in the order input, forget, cell, output).
    """

    def __init__(self, selector: KeyFrameLSTM) -> None:
        weights = {name: value.detach().cpu().numpy().copy() for name, value in selector.state_dict().items()}
        self._first = selector.first
        self._mean, self._deviation = weights["mean"][self._first :], weights["deviation"][self._first :]
        self._layers = []
        for layer in range(selector.config.layers):
            kernels = [weights[f"lstm.weight_{part}_l{layer}"] for part in ("ih", "hh")]
            biases = [weights[f"lstm.bias_{part}_l{layer}"] for part in ("ih", "hh")]
            self._layers.append((np.concatenate(kernels, 1), biases[0] + biases[1]))
        self._head, self._bias = weights["head.weight"][0], float(weights["head.bias"][0])
        self._units = selector.config.units

    def __call__(self, row: NDArray[np.float32], memory: Memory | None) -> tuple[float, Memory]:
        """(D + 5,) of `selector_input`, hidden and cell (layers, units) after the frame before -> what is predicted, and those after."""
        if memory is None:
            zeros = np.zeros((len(self._layers), self._units), np.float32)
            memory = zeros, zeros
        features = ((row[self._first :] - self._mean) / self._deviation).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
        hidden, cell = np.empty_like(memory[0]), np.empty_like(memory[1])
        for layer, (weight, bias) in enumerate(self._layers):
            gates = (weight @ np.concatenate([features, memory[0][layer]]) + bias).reshape(4, self._units)
            taken, kept, shown = (0.5 + 0.5 * np.tanh(0.5 * gates[place]) for place in (0, 1, 3))
            cell[layer] = kept * memory[1][layer] + taken * np.tanh(gates[2])
            features = hidden[layer] = shown * np.tanh(cell[layer])
        return float(self._head @ features) + self._bias, (hidden, cell)


def observation_row(observation: Observation) -> NDArray[np.float32]:
    """What the selector sees of a frame: (D + 5,), as `selector_input` makes it."""
    counts = np.log1p(observation.frames_since), np.log1p(observation.boxes)
    signals = counts[0], observation.last_loss, observation.motion, observation.doubt, counts[1]
    return np.concatenate([observation.features, np.asarray(signals, np.float32)])


def save_selector(path: Path | str, selector: KeyFrameLSTM, about: Mapping[str, Any] | None = None) -> None:
    """Write a selector's file, whole or not at all. about: plain values that say how it was trained. Raises WriteError."""
    whole = io.BytesIO()
    torch.save({"kind": KIND, "selector": selector_payload(selector), "about": dict(about or {})}, whole)
    with atomic_write(path, "wb") as file:
        file.write(whole.getbuffer())


def load_selector(path: Path | str) -> KeyFrameLSTM:
    """The selector of a file, on the CPU, in eval mode. Raises CheckpointError if it is missing, damaged or something else."""
    return selector_from(_content(Path(path))["selector"])


def read_about(path: Path | str) -> dict[str, Any]:
    """How the selector of a file was trained. Raises CheckpointError as `load_selector` does."""
    return dict(_content(Path(path))["about"])


def _content(path: Path) -> dict[str, Any]:
    content = read_file(path, hint="a file that vidkd train_selector wrote")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a key-frame selector", hint="a file that vidkd train_selector wrote")
    return content


def provenance(training: Sequence[str], judging: Sequence[str], net: torch.nn.Module, resize: str) -> dict[str, Any]:
    """Plain values for `about` of a selector's file.

    training, judging: hashes of the content of the videos that it learned from and was judged by (`vidkd.video.files`). net: of the
    student at its start; resize: how frames meet it.
    """
    return {"videos": {"train": list(training), "validate": list(judging)}, "student": _student(net, resize)}


def objections(about: Mapping[str, Any], net: torch.nn.Module, resize: str, contents: Mapping[str, str]) -> list[str]:
    """Why a selector would be judged by what it knows already, or see features that mean something else; one phrase each.

    about: of its file. net, resize: of the student at its start. contents: hashes of the videos by name.
    """
    if not {"videos", "student"} <= about.keys():
        return ["does not say which videos and which student it has seen"]
    now, found = _student(net, resize), []
    if differing := [name for name in now if about["student"].get(name) != now[name]]:
        found.append(f"was trained with another student: its {', '.join(differing)} differ")
    learned = {*about["videos"]["train"], *about["videos"]["validate"]}
    if seen := [name for name, content in contents.items() if content in learned]:
        found.append(f"has seen {', '.join(seen)} in its training")
    return found


def _student(net: torch.nn.Module, resize: str) -> dict[str, str]:
    return {"weights": hash_of_weights(net), "resize": resize}


def hash_of_weights(net: torch.nn.Module) -> str:
    """Short SHA-256 of weights and buffers by name, shape and value, so that a checkpoint and the darknet file made of it are one."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if value.is_floating_point():  # not how many batches a normalisation has seen, which no file of weights holds
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def other_learning(about: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings of the student's learning, as `update.lr: 0.1 then, 0.2 now`, that both sides name and that differ; but for the seed."""
    both = json.loads(json.dumps([about.get("made_from", {}), dict(now)]))  # tuples as lists
    then, now = (flatten({name: part[name] for name in LEARNING if name in part}) for part in both)
    return [
        f"{key}: {value} then, {now[key]} now" for key, value in then.items() if key in now and value != now[key] and key != "replay.seed"
    ]


LEARNING = ("every", "budget", "window", "update", "replay")
"""Settings of the student's learning while records were made, in `made_from` of a selector's file."""
