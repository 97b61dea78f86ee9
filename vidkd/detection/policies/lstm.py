"""Calls where an LSTM expects the oracle to disagree, and the file that it lies in."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.base.files import atomic_write
from vidkd.detection.policies.budget import CallBudget
from vidkd.detection.policies.policy import Observation, Policy
from vidkd.models.selector import KeyFrameLSTM, State, selector_from, selector_input, selector_payload

KIND = "vidkd key-frame selector"


class LstmSelector(Policy):
    """Score: what the selector predicts for the frame, from this frame and those before it.

    selector: in eval mode, used on the device of its weights and never changed. It sees every frame once, called or not.
    Raises ConfigError at the first frame of a student whose features are not as many as the selector was trained for.
    """

    def __init__(self, selector: KeyFrameLSTM) -> None:
        self.selector = selector.eval()
        self._memory: State | None = None

    @classmethod
    def open(cls, path: Path | str) -> "LstmSelector":
        """The selector of a file; raises CheckpointError as `load_selector` does."""
        return cls(load_selector(path))

    def start(self, budget: CallBudget) -> None:  # noqa: ARG002 - the budget is kept by whoever reads the scores
        """As `Policy.start`."""
        self._memory = None

    @torch.inference_mode()
    def wants(self, observation: Observation) -> float:
        """As `Policy.wants`."""
        expected = self.selector.config.features
        if len(observation.features) != expected:
            raise ConfigError(
                f"the selector was trained for {expected} features of a student, this one has {len(observation.features)}",
                to_mend="train a selector for this student",
            )
        row = observation_row(observation).to(self.selector.mean.device)
        score, self._memory = self.selector.step(row[None], self._memory)
        return float(score)

    def state(self) -> dict[str, Any]:
        """As `Policy.state`."""
        return {"memory": None if self._memory is None else [part.clone() for part in self._memory]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `Policy.restore`."""
        memory = state["memory"]
        device = self.selector.mean.device
        self._memory = None if memory is None else (memory[0].to(device, copy=True), memory[1].to(device, copy=True))


def observation_row(observation: Observation) -> torch.Tensor:
    """What the selector sees of a frame: (D + 3,) float32 of `selector_input`; its motion is `Observation.motion`."""
    features = torch.from_numpy(observation.features)
    signals = (observation.frames_since, observation.last_loss, observation.motion)
    return selector_input(features, *(torch.tensor(float(signal)) for signal in signals))


def save_selector(path: Path | str, selector: KeyFrameLSTM, about: Mapping[str, Any] | None = None) -> None:
    """Write a selector's file, whole or not at all. about: plain values that say how it was trained."""
    content = {"kind": KIND, "selector": selector_payload(selector), "about": dict(about or {})}
    with atomic_write(path, "wb") as file:
        torch.save(content, file)


def load_selector(path: Path | str) -> KeyFrameLSTM:
    """The selector of a file, on the CPU, in eval mode. Raises CheckpointError if it is missing, damaged or something else."""
    return selector_from(_content(Path(path))["selector"])


def read_about(path: Path | str) -> dict[str, Any]:
    """How the selector of a file was trained. Raises CheckpointError as `load_selector` does."""
    return dict(_content(Path(path))["about"])


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"selector not found: {path}", to_mend="train one, or name another file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in torch in any way
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise CheckpointError(f"cannot read selector {path}", reason=reason, to_mend="it is truncated or not a selector") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or not {"selector", "about"} <= content.keys():
        raise CheckpointError(f"{path} is not a key-frame selector", to_mend="name a file that the training of a selector wrote")
    return content
