"""What a selector was trained on, kept in its file, and what of that is other where it is used."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

LEARNING = ("every", "budget", "window", "update", "replay")
"""Settings of the student's learning while records were made, in `made_from` of a selector's file."""


def provenance(training: Sequence[str], judging: Sequence[str], net: torch.nn.Module, resize: str) -> dict[str, Any]:
    """Plain values for `about` of a selector's file.

    training, judging: hashes of the content of the videos that it learned from and was judged by (`vidkd.video.content`). net: of the
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
    return [told for name in LEARNING if name in made_from and name in now for told in _different(made_from[name], now[name], name)]


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
        return [told for name in shared for told in _different(then[name], now[name], f"{at}.{name}")]
    same = list(then) == list(now) if isinstance(then, list | tuple) and isinstance(now, list | tuple) else then == now
    return [] if same else [f"{at}: {then} then, {now} now"]
