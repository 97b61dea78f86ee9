"""A classifier in a checkpoint (its configuration, classes and weights, enough to use it without its run), or in an exported file."""

import dataclasses
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.base.errors import CheckpointError
from vidkd.base.files import atomic_write
from vidkd.models.changes import apply_changes
from vidkd.models.classifier import ClassifierOutput, VideoClassifier
from vidkd.models.config import AttentionConfig, ModelConfig, TemporalConfig, View
from vidkd.models.weights import read_file
from vidkd.runtime.clip_classifier import ExportedClassifier
from vidkd.runtime.metadata import ATTENTION, LOGITS, target_output
from vidkd.runtime.opening import refuse_program


@dataclass(frozen=True, kw_only=True)
class SavedClassifier:
    """A classifier read from a checkpoint, with the names of its classes and the configuration of the run that made it (plain values).

    targets: the class names of its further labels. seen: the classes of which it was trained on a labelled clip (None: not recorded).
    data: hash of the manifest that it was trained on (None: not recorded). learned: see `vidkd.data.learned_from` (None: not recorded).
    """

    model: VideoClassifier
    classes: tuple[str, ...]
    view: View
    run: dict[str, Any]
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seen: tuple[str, ...] | None = None
    data: str | None = None
    learned: Mapping[str, Any] | None = None


def classifier_payload(
    model: VideoClassifier,
    classes: Sequence[str],
    targets: Mapping[str, Sequence[str]] | None = None,
    seen: Sequence[str] | None = None,
    learned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The part of a checkpoint that describes a classifier: plain values and tensors, readable with weights_only=True.

    A compressed one has its plans under "changes"; the network is rebuilt from config and plans before its weights are loaded.
    """
    return {
        "config": {**dataclasses.asdict(model.config), "weights": None},
        "classes": list(classes),
        "targets": {name: list((targets or {})[name]) for name in model.targets},
        "seen": None if seen is None else list(seen),
        "learned": None if learned is None else dict(learned),
        "view": model.view,
        "flow_stack": model.flow_stack,
        **({"changes": list(model.changes)} if model.changes else {}),
        "state": model.state_dict(),
    }


def save_classifier(path: Path | str, saved: SavedClassifier) -> None:
    """Write a classifier so that `load_classifier` gives it back, without what a run needs to resume; the file appears whole or not at all.

    For one that no run made: `dataclasses.replace(saved, model=smaller)` after compression. Raises WriteError as `write_checkpoint`.
    """
    student = classifier_payload(saved.model, saved.classes, saved.targets, saved.seen, saved.learned)
    write_checkpoint(path, {"student": student, "run": saved.run, "data": saved.data})


def write_checkpoint(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write one checkpoint file atomically. Raises WriteError where the file system refuses."""
    whole = io.BytesIO()
    torch.save(dict(content), whole)  # not to the file at once: torch hides its errors
    with atomic_write(path, "wb") as file:
        file.write(whole.getvalue())


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Raises CheckpointError if it is missing, truncated, or not a checkpoint of vidkd."""
    named, path = Path(path), checkpoint_in(Path(path))
    if not path.exists():
        files = [file for file in sorted(named.glob("*")) if file.suffix in (".onnx", ".xml")] if named.is_dir() else []
        mend = f"name the exported file in that folder: {files[0]}" if files else "train it, or name another file"
        raise CheckpointError(f"checkpoint not found: {path}", hint=mend)
    refuse_program(path)
    previous = path.with_name("previous.pt")
    hint = "name the folder of a run, or its .pt file"
    content = read_file(path, f"{previous} holds the state before (--resume previous)" if previous.exists() else hint)
    if not isinstance(content, dict) or not isinstance(content.get("student"), dict):
        raise CheckpointError(f"{path} is not a checkpoint of vidkd", hint=hint)
    return content


def checkpoint_in(run: Path) -> Path:
    """The checkpoint to use of a run's folder: the best by validation if there is one, else the last; of a step of compression its network.

    A path of no folder is its own.
    """
    if not run.is_dir():
        return run
    last = run / "checkpoints" / "last.pt"
    found = (path for path in (run / "checkpoints" / "best.pt", last, run / "model.pt") if path.exists())
    return next(found, last)


def load_classifier(path: Path | str) -> SavedClassifier:
    """The student of a checkpoint (a file, or the folder of a run), in eval mode.

    Raises CheckpointError as `read_checkpoint` does, and for the checkpoint of a detector.
    """
    content = read_checkpoint(path)
    saved = content["student"]
    if "cfg" in saved:
        raise CheckpointError(f"{path} holds a detector, not a classifier of clips", hint="vidkd detect --model takes it")
    try:
        parts = {"attention": AttentionConfig, "temporal": TemporalConfig}
        config = ModelConfig(**{name: parts[name](**of) if name in parts else of for name, of in saved["config"].items()})
        targets = {name: tuple(names) for name, names in saved.get("targets", {}).items()}
        counts = {name: len(names) for name, names in targets.items()}
        model = VideoClassifier(config, len(saved["classes"]), saved["view"], counts, flow_stack=saved.get("flow_stack", 1))
        apply_changes(model, saved.get("changes", ()))
        model.load_state_dict(content.get("ema") or saved["state"])
        classes = tuple(map(str, saved["classes"]))
    except (RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"the weights of {path} do not fit the network that it names", reason=textwrap.shorten(str(error), 300)
        ) from error
    seen = saved.get("seen")
    return SavedClassifier(
        model=model.eval(),
        classes=classes,
        view=saved["view"],
        run=content.get("run", {}),
        targets=targets,
        seen=None if seen is None else tuple(seen),
        data=content.get("data"),
        learned=saved.get("learned"),
    )


class ExportedModule(nn.Module):
    """Runs an `ExportedClassifier` on tensors; it has no weights here, no features, and cannot be trained."""

    def __init__(self, classifier: ExportedClassifier) -> None:
        super().__init__()
        self._classifier = classifier
        self.view: View = classifier.view
        self.targets = {name: len(names) for name, names in classifier.metadata.targets.items()}

    def forward(self, clip: Tensor, observed: Tensor | None = None) -> ClassifierOutput:
        """As of `VideoClassifier`; `features` and `pooled` are empty."""
        found = self._classifier.raw(clip.cpu().numpy(), None if observed is None else observed.cpu().numpy())
        attention = {"motion": torch.from_numpy(found[ATTENTION])} if ATTENTION in found else {}
        targets = {name: torch.from_numpy(found[target_output(name)]) for name in self.targets}
        return ClassifierOutput(torch.from_numpy(found[LOGITS]), attention, {}, clip.new_empty(0), targets)
