"""What an exported classifier's file says of itself."""

from vidkd import __version__
from vidkd.data.config import DataConfig
from vidkd.data.exported import shown_settings
from vidkd.models.saved import SavedClassifier
from vidkd.runtime.metadata import ClassifierMetadata, ClipFormat


def classifier_metadata(saved: SavedClassifier, data: DataConfig, *, quantised: bool = False) -> ClassifierMetadata:
    """The metadata of a classifier that was trained with these settings. No path of this machine is among them.

    quantised: whether its file computes in integers.
    """
    model, spec = saved.model, saved.model.normalise.spec
    return ClassifierMetadata(
        classes=saved.classes,
        targets=dict(saved.targets),
        view=saved.view,
        input=ClipFormat(
            frames=data.window.frames,
            size=data.transform.crop,
            mean=tuple(float(value) for value in spec.mean),
            std=tuple(float(value) for value in spec.std),
            bound_px=spec.bound_px,
        ),
        observed=model.config.told_observed,
        map_shift_cells=model.map_shift_cells if "motion" in model.config.attention.map_names else None,
        shown=shown_settings(data),
        trained={
            "task": str(saved.run.get("task", "unknown")),
            "backbone": model.config.backbone,
            "changes": [*(str(change.get("kind", "unknown")) for change in model.changes), *(["quantise"] if quantised else [])],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "learned": None if saved.learned is None else dict(saved.learned),
            "seen": None if saved.seen is None else list(saved.seen),
        },
        vidkd=__version__,
    )
