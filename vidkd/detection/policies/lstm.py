"""The key-frame policy of a trained LSTM: its scores, its file, and what it was trained on."""

import hashlib
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.files import atomic_write
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy
from vidkd.models.selector import LARGEST_DEVIATION, KeyFrameLSTM, selector_from, selector_payload

AGAIN = "fix that, and repeat the same command: finished records are reused"
KIND = "vidkd key-frame selector"

Memory = tuple[NDArray[np.float32], NDArray[np.float32]]


class LstmSelector(Policy):
    """Score: what the selector predicts for the frame, from this frame and those before it.

    selector: its weights are copied, on whatever device they are. It sees every frame once, called or not.
    Raises ConfigError at the first frame of a student whose features are not as many as the selector was trained for.
    """

    def __init__(self, selector: KeyFrameLSTM) -> None:
        self.selector = selector.eval()
        self._step = SelectorStep(selector)
        self._memory: Memory | None = None

    @classmethod
    def open(cls, path: Path | str) -> "LstmSelector":
        """The selector of a file; raises CheckpointError as `load_selector` does."""
        return cls(load_selector(path))

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

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"memory": None if self._memory is None else [torch.tensor(part)[:, None] for part in self._memory]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        memory = state["memory"]
        self._memory = None if memory is None else (memory[0][:, 0].numpy().copy(), memory[1][:, 0].numpy().copy())


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
    """Write a selector's file, whole or not at all. about: plain values that say how it was trained.

    Raises CheckpointError if it cannot be written.
    """
    content = {"kind": KIND, "selector": selector_payload(selector), "about": dict(about or {})}
    whole = io.BytesIO()
    torch.save(content, whole)  # not to the file at once: torch hides what the file system says
    try:
        with atomic_write(path, "wb") as file:
            file.write(whole.getbuffer())
    except OSError as error:
        raise CheckpointError(f"cannot write selector: {path}", reason=error.strerror or error, hint=AGAIN) from error


def load_selector(path: Path | str) -> KeyFrameLSTM:
    """The selector of a file, on the CPU, in eval mode. Raises CheckpointError if it is missing, damaged or something else."""
    return selector_from(_content(Path(path))["selector"])


def read_about(path: Path | str) -> dict[str, Any]:
    """How the selector of a file was trained. Raises CheckpointError as `load_selector` does."""
    return dict(_content(Path(path))["about"])


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"selector not found: {path}", hint="train one, or name another file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in torch in any way
        unreadable = type(error).__name__ == "UnpicklingError"  # whose text speaks of how torch reads
        reason = "torch did not write it" if unreadable else textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise CheckpointError(f"cannot read selector {path}", reason=reason, hint="it is truncated or not a selector") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or not {"selector", "about"} <= content.keys():
        raise CheckpointError(f"{path} is not a key-frame selector", hint="name a file that the training of a selector wrote")
    return content


LEARNING = ("every", "budget", "window", "update", "replay")
"""Settings of the student's learning while records were made, in `made_from` of a selector's file."""


def provenance(training: Sequence[str], judging: Sequence[str], net: torch.nn.Module, resize: str) -> dict[str, Any]:
    """Plain values for `about` of a selector's file.

    training, judging: hashes of the content of the videos that it learned from and was judged by (`vidkd.video.files`). net: of the
    student at its start; resize: how frames meet it.
    """
    return {"videos": {"train": list(training), "validate": list(judging)}, "student": _student(net, resize)}


def says_where_from(about: Mapping[str, Any]) -> bool:
    """Whether a selector's file holds all of `provenance`; older ones, and those that a program wrote without, do not."""
    return "videos" in about and "student" in about


def seen_among(about: Mapping[str, Any], contents: Mapping[str, str]) -> list[str]:
    """Names of those videos, content by name, that the selector learned from or was judged by; none where its file does not say."""
    videos = about.get("videos", {})
    seen = {*videos.get("train", ()), *videos.get("validate", ())}
    return [name for name, content in contents.items() if content in seen]


def other_student(about: Mapping[str, Any], net: torch.nn.Module, resize: str) -> list[str]:
    """Which of weights and resize of the selector's student are other than these; none where its file does not say."""
    then, now = about.get("student", {}), _student(net, resize)
    return [name for name in now if name in then and then[name] != now[name]]


def other_learning(about: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings of LEARNING, as `update.lr: 0.1 then, 0.2 now`, that both sides name and that differ. The seed of replay is none."""
    made_from = about.get("made_from", {})
    return [
        difference for name in LEARNING if name in made_from and name in now for difference in _different(made_from[name], now[name], name)
    ]


def hash_of_weights(net: torch.nn.Module) -> str:
    """Short SHA-256 of weights and buffers by name, shape and value, so that a checkpoint and the darknet file made of it are one."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if value.is_floating_point():  # not how many batches a normalisation has seen, which no file of weights holds
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _student(net: torch.nn.Module, resize: str) -> dict[str, str]:
    return {"weights": hash_of_weights(net), "resize": resize}


def _different(then: object, now: object, at: str) -> list[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        shared = [name for name in then if name in now and f"{at}.{name}" != "replay.seed"]
        return [difference for name in shared for difference in _different(then[name], now[name], f"{at}.{name}")]
    same = list(then) == list(now) if isinstance(then, list | tuple) and isinstance(now, list | tuple) else then == now
    return [] if same else [f"{at}: {then} then, {now} now"]
