"""Pretrained weights from a file, torchvision or timm. Only the classification head may differ; never a silent random network."""

import logging
import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.base.errors import CheckpointError, first_line
from vidkd.models.backbone import Backbone, Layout, first_convolution, flow_filters

# where training programs put the parameters inside a checkpoint
_NESTED = ("model_state", "state_dict", "model")

State = Mapping[str, Tensor]

PRETRAINED = "pretrained"
"""In place of a file: what the library of a network publishes for it."""
log = logging.getLogger(__name__)
FOLDER_VARIABLE = "VIDKD_WEIGHTS"
"""Names the folder of published weights on a machine without a network: NAME.safetensors, .pt or .pth, as the network is called."""


def read_weights(source: str, architecture: str) -> State:
    """Parameters by name, on the CPU, from the file `source`; if it is "pretrained" from `published_file`, else downloaded.

    Raises CheckpointError if the file is missing, unreadable, of an unknown kind or holds no parameters, or the download fails.
    """
    published, folder = published_file(architecture) if source == PRETRAINED else None, os.environ.get(FOLDER_VARIABLE)
    if source == PRETRAINED and published is None:
        if folder and not Path(folder).is_dir():
            raise CheckpointError(f"{FOLDER_VARIABLE} names no folder: {folder}", hint="the folder of the file, or unset it to download")
        if folder:
            log.warning("%s (%s) has no %s: downloading", folder, FOLDER_VARIABLE, " or ".join(_file_names(architecture)))
        return _download(architecture)
    path = published or Path(source)
    if not path.is_file():
        hint = "give the path of an existing file, or set weights to null to train from scratch"
        raise CheckpointError(f"weights not found: {path}", backbone=architecture, hint=hint)
    return _parameters(read_file(path), path)


def published_file(architecture: str) -> Path | None:
    """The file with the published weights of a network in the folder that VIDKD_WEIGHTS names; None where there is none."""
    folder = os.environ.get(FOLDER_VARIABLE)
    files = [Path(folder) / name for name in _file_names(architecture)] if folder else []
    return next((file for file in files if file.is_file()), None)


def _file_names(architecture: str) -> list[str]:
    return [f"{architecture.removeprefix('timm:')}{suffix}" for suffix in (".safetensors", ".pt", ".pth")]


def provenance(source: str | None) -> Mapping[str, Any] | None:
    """How a file of weights was trained, if it is a checkpoint of vidkd: all that it holds but tensors; None for any other source.

    "student" has "classes" and "targets" (names), "run" the configuration of the run, "data" the hash of its manifest.
    Raises CheckpointError as `read_weights` does for a file that cannot be read.
    """
    if source is None or source == PRETRAINED or not Path(source).is_file():
        return None
    content: Any = read_file(Path(source))
    if not isinstance(content, Mapping) or not isinstance(content.get("student"), Mapping):
        return None
    student = {key: value for key, value in content["student"].items() if key != "state"}
    return {"student": student, "run": content.get("run", {}), "data": content.get("data")}


def read_file(path: Path, hint: str = "a file of tensors as torch or safetensors writes it (.pt, .pth, .pyth, .safetensors)") -> object:
    """What a file of weights or a checkpoint holds, on the CPU; no code in it is run. Raises CheckpointError if it cannot be read."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip files, safetensors, the file system
        # what torch says of a refused pickle advises to run the code in it
        said = "" if isinstance(error, pickle.UnpicklingError) else f": {first_line(error)}"
        reason = f"truncated, or no file of weights ({type(error).__name__}{said})"
        raise CheckpointError(f"cannot read {path}", reason=reason, hint=hint) from error


def _parameters(content: object, path: Path) -> State:
    if isinstance(content, Mapping) and isinstance(content.get("student"), Mapping):  # a checkpoint of vidkd
        content = content.get("ema") or content["student"].get("state")
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"no parameters in {path}", expected=f"a dictionary of tensors, at the top or under {', '.join(_NESTED)}")
    # DistributedDataParallel and torch.compile leave prefixes of their own
    return {str(key).replace("_orig_mod.", "").removeprefix("module."): value for key, value in content.items()}


def _download(architecture: str) -> State:
    library = "timm" if architecture.startswith("timm:") else "torchvision"
    try:
        return _from_timm(architecture.removeprefix("timm:")) if library == "timm" else _from_torchvision(architecture)
    except ValueError as error:
        raise CheckpointError(f"{library} has no weights for '{architecture}'", hint="give the path of a weights file") from error
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"weights of '{architecture}' could not be downloaded",
            reason=first_line(error),
            hint=f"fetch them with {library} on a machine with a network, and set {FOLDER_VARIABLE} to the folder of that file",
        ) from error


def _from_torchvision(architecture: str) -> State:
    from torchvision.models import get_model_weights

    state: State = get_model_weights(architecture).DEFAULT.get_state_dict(progress=False, check_hash=True)
    return state


def _from_timm(name: str) -> State:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.url or config.hf_hub_id):
        raise ValueError(name)
    state: State = timm.create_model(name, pretrained=True).state_dict()
    return state


def load_backbone(backbone: Backbone, state: State, source: str) -> None:
    """Fill `backbone` from `state`, without what belongs to a head.

    `state` may be that of the library's network, of a Backbone or of a VideoClassifier. RGB filters are adapted for a flow backbone.
    Raises CheckpointError naming the first missing, unexpected and misshapen parameters.
    """
    prefixes = ("student.backbone.net.", "backbone.net.", "net.")
    ours = next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in state)), "")
    head = () if ours else backbone.layout.head
    parameters = {key.removeprefix(ours): value for key, value in state.items() if key.startswith(ours) and not key.startswith(head)}
    first = f"{first_convolution(backbone.net)[0]}.weight"
    if backbone.view == "flow" and first in parameters and parameters[first].shape[1] == 3:
        parameters[first] = flow_filters(parameters[first], len(backbone.input.mean))
    check_state_dict(backbone.net.state_dict(), parameters, source)
    backbone.net.load_state_dict(parameters, strict=False)


def check_state_dict(own: State, given: State, source: str) -> None:
    """Raise CheckpointError naming the first missing, unexpected and misshapen parameters of `given`, where `own` are wanted."""
    # files older than torch 0.4.1 count no batches, and nothing here reads the count
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in own]
    misshapen = [
        f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}" for key in own if key in given and given[key].shape != own[key].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "other_shape": misshapen}
    lines = {label: f"{len(names)}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" for label, names in found.items() if names}
    if lines:
        raise CheckpointError(f"weights do not fit: {source}", **lines, hint="choose the architecture and view that the file was made for")


def load_head(classifier: nn.Module, state: State, layout: Layout, other_classes: Collection[str] = ()) -> tuple[str, ...]:
    """Fill all of a VideoClassifier but its backbone as far as `state` has it in the same shape; returns the names that were filled.

    `state`: that of a VideoClassifier, or of the library's network where its head is exactly mean pooling and one linear layer
    (`layout.linear_head`). other_classes: prefixes of the layers that classify into other classes in the file; they are left out, like
    those for another number of classes.
    """
    left_out = ("backbone.", *other_classes)
    own = {key: value for key, value in classifier.state_dict().items() if not key.startswith(left_out)}
    candidates = {key.removeprefix("student."): value for key, value in state.items()}
    if layout.linear_head is not None and layout.linear_head[0] in state:
        candidates |= {f"fc.{part}": state[key] for part, key in zip(("weight", "bias"), layout.linear_head, strict=True)}
    fitting = {key: candidates[key] for key, value in own.items() if key in candidates and candidates[key].shape == value.shape}
    classifier.load_state_dict(fitting, strict=False)
    return tuple(fitting)
