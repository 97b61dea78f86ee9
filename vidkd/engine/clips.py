"""Which clips a run trains on and is judged on: split, held-out groups, share of labels, what can be observed, what has no label."""

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.settings import config_stem, place_of
from vidkd.data.config import DataConfig
from vidkd.data.groups import hold_out_groups, label_fraction, labels_per_class
from vidkd.data.layouts import LAYOUTS
from vidkd.data.layouts.common import NO_DATA
from vidkd.data.manifest import Clip, Manifest, manifest_identity
from vidkd.data.observation import ObserveConfig, is_shortened, split_observable
from vidkd.engine.config import RunConfig
from vidkd.video.files import copies_among

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clips:
    """A manifest and the clips of its subsets under a configuration's split, held-out groups and label fraction.

    train: those with a label of any kind. unlabelled: those that training sees without one. Clips before whose gap nothing was shown are in
    none of the subsets; `unobservable` has them by subset, those of `unlabelled` (of the manifest) too. Clips without a frame in the
    observed part are found out when they are read. left_out: how many training clips have no label here and are in no subset.
    """

    manifest: Manifest
    train: list[Clip]
    val: list[Clip]
    unlabelled: list[Clip] = field(default_factory=list)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    unobservable: Mapping[str, Sequence[Clip]] = field(default_factory=dict)
    left_out: int = 0
    labels_per_class: int | None = None

    @property
    def trained_classes(self) -> list[str]:
        """The classes of which there is a labelled training clip."""
        return [self.manifest.classes[label] for label in sorted({clip.label for clip in self.train if clip.label is not None})]

    @functools.cached_property
    def data(self) -> str:
        """Hash of what the manifest says."""
        return manifest_identity(self.manifest)["sha256"]

    def training_remarks(self) -> list[str]:
        """How many training clips are left out, of how many less is observed than should be, and which classes have fewer labels."""
        left = sum(len(self.unobservable.get(name, ())) for name in ("train", "unlabelled"))
        seen = [*self.train, *self.unlabelled]
        shortened = sum(is_shortened(clip, self.observe) for clip in seen)
        lines = [f"{left} of {left + len(seen)} training clips are left out: the gap leaves nothing to observe"] if left else []
        if self.labels_per_class is not None:
            counts = Counter(clip.label for clip in self.train if clip.label is not None)
            few = [f"{name} {counts[label]}" for label, name in enumerate(self.manifest.classes) if counts[label] < self.labels_per_class]
            if few:
                named = ", ".join(few[:6]) + (", …" if len(few) > 6 else "")
                lines.append(f"{len(few)} classes have fewer labels than data.labels_per_class ({self.labels_per_class}): {named}")
        if shortened:
            lines.append(
                f"of {shortened} of {len(seen)} training clips less than data.observe.observe_s is observed: their files begin later"
            )
        return lines

    def label_remark(self) -> str:
        """How many training clips have a label, and how many are seen without one or left out; "" where all have one.

        Those of which nothing can be observed are in none of these numbers.
        """
        others = {
            "are seen without one (data.unlabelled: use)": len(self.unlabelled),
            "are left out (data.unlabelled: none)": self.left_out,
        }
        said = [f"{count} {what}" for what, count in others.items() if count]
        return ", ".join([f"{len(self.train)} training clips are learned with their label", *said]) if said else ""

    def without(self, name: str, clips: Sequence[Clip]) -> "Clips":
        """The same with these clips of a subset among its unobservable ones: their files have no frame where they should be observed."""
        known = list(self.unobservable.get(name, ()))
        more = [clip for clip in clips if not any(clip is other for other in known)]
        return dataclasses.replace(self, unobservable={**self.unobservable, name: known + more}) if more else self

    def subset(self, name: str, split: str) -> list[Clip]:
        """`train`, `val` or `test`, without what is known to be unobservable. Raises DataError if it holds no clip."""
        clips = {"train": self.train, "val": self.val}.get(name)
        if clips is None:
            clips, _ = split_observable(self.manifest.select(split, name), self.observe)
        left = {id(clip) for clip in self.unobservable.get(name, ())}
        clips = [clip for clip in clips if id(clip) not in left]
        if not clips:
            raise DataError(
                f"split '{split}' has no '{name}' clips",
                hint="train with data.validation_fraction > 0, which keeps `val` clips back" if name == "val" else "another --subset",
            )
        return clips


def read_clips_of_run(config: RunConfig) -> Clips:
    """As `read_clips`; the message of a missing data set says where the configuration names it, and how it is prepared."""
    key = "data.manifest" if config.data.manifest else "data.root"
    return read_clips(config.data, given=place_of(config, key), layout=config_stem(config))


def read_clips(config: DataConfig, *, given: str = "", layout: str = "") -> Clips:
    """Read the manifest and select the clips.

    given: where data.root or data.manifest was set; layout: the data set's layout if it is one of LAYOUTS. Both serve the message of the
    DataError for a data set that is not there.
    """
    manifest = Manifest.read(manifest_of(config, given=given, layout=layout), config.root or None)
    train, val, test = (manifest.select(config.split, name) for name in ("train", "val", "test"))
    if config.validation_fraction > 0:
        if val:
            log.warning("data.validation_fraction is set: the %d `val` clips of the manifest judge nothing", len(val))
        train, val = hold_out_groups(train, config.validation_fraction, config.split_seed)
    kept = label_fraction(train, config.label_fraction, config.split_seed) if config.label_fraction < 1 else train
    if config.labels_per_class is not None:
        kept = labels_per_class(kept, config.labels_per_class, config.split_seed)
    # groups are drawn before clips of which nothing can be observed fall out: teacher and student, who observe otherwise, draw the same
    chosen = {id(clip) for clip in kept if clip.is_labelled}
    every = {name: split_observable(clips, config.observe) for name, clips in (("train", train), ("val", val), ("test", test))}
    labelled, unseen = ([clip for clip in part if id(clip) in chosen] for part in every["train"])
    rest = [] if config.unlabelled == "none" else [clip for clip in every["train"][1] if id(clip) not in chosen]
    return Clips(
        manifest,
        labelled,
        every["val"][0],
        unlabelled=unlabelled_clips(config, manifest, every["train"][0], labelled, [*val, *test]),
        observe=config.observe,
        unobservable={"train": unseen, "val": every["val"][1], "test": every["test"][1], "unlabelled": rest},
        left_out=len(every["train"][0]) - len(labelled) if config.unlabelled == "none" else 0,
        labels_per_class=config.labels_per_class,
    )


def manifest_of(config: DataConfig, *, given: str = "", layout: str = "") -> Path:
    """The manifest's file. given, layout: see `read_clips`. Raises ConfigError where no data set is named, DataError if it is not there."""
    if not config.root and not config.manifest:
        raise ConfigError("data.root is not set", hint="--data.root DIR   (the folder of the data set)")
    path = Path(config.manifest) if config.manifest else Path(config.root) / "manifest.jsonl"
    if not path.exists():
        raise _not_found(path, config, given, layout)
    return path


def unlabelled_clips(
    config: DataConfig, manifest: Manifest, train: Sequence[Clip], labelled: Sequence[Clip], judged: Sequence[Clip]
) -> list[Clip]:
    """What training sees without labels: the rest of `train`, and the clips of `unlabelled_manifest`; none with data.unlabelled=none.

    Raises DataError if one of them lies in a file that is judged, or in a copy of it under another name, or if there are none.
    """
    if config.unlabelled == "none":
        return []
    known = {id(clip) for clip in labelled}
    found = [dataclasses.replace(clip, label=None, targets={}) for clip in train if id(clip) not in known]
    files = {_file(manifest.root, clip) for clip in judged}
    copies = set(copies_among({clip.path: _file(manifest.root, clip) for clip in found}, files))
    shared = [clip.path for clip in found if clip.path in copies]
    if config.unlabelled_manifest is not None:
        other = Manifest.read(config.unlabelled_manifest)
        clips, unseen = split_observable(other.clips, config.observe)
        if unseen:
            log.warning("%d clips of %s are left out: the gap leaves nothing to observe", len(unseen), config.unlabelled_manifest)
        paths = {clip.path: _file(other.root, clip) for clip in clips}
        shared += copies_among(paths, files)
        # an absolute path leads to the file whatever the root of the data set is
        found += [dataclasses.replace(clip, path=str(paths[clip.path]), label=None, targets={}) for clip in clips]
    if shared:
        raise DataError(
            f"{len(shared)} unlabelled clips lie in videos that are judged", first=shared[0], hint="leave these videos out of training"
        )
    if not found:
        raise DataError(
            "data.unlabelled is `use`, but there is no unlabelled clip",
            hint="data.label_fraction below 1, data.labels_per_class, rows without a label, or data.unlabelled_manifest",
        )
    return found


def _file(root: Path, clip: Clip) -> Path:
    return (root / clip.path).resolve()


def _not_found(path: Path, config: DataConfig, given: str, layout: str) -> DataError:
    """The error for a data set without a manifest; one without a layout of its own name is called as its folder."""
    root, known = Path(config.root or "DIR"), layout in LAYOUTS
    found = f"{path if path.parent.is_dir() else path.parent} is missing"
    command = f"vidkd prepare_data {layout if known else 'LAYOUT'} --data.root {root}"
    layouts = "" if known else f"   (LAYOUT: {', '.join(sorted(LAYOUTS))})"
    if config.manifest:
        hint = f"{command} --out {path}{layouts}"
        return DataError(f"manifest not found: {path}", given=given or "data.manifest", found=found, hint=hint, **NO_DATA)
    return DataError(
        f"data set '{layout if known else root.resolve().name}' not found",
        looked_in=f"{root.resolve()}   ({given or 'data.root'})",
        expected=f"{path.name}, which prepare_data writes there",
        found=found,
        hint=f"{command}{layouts}",
        read_only="add --out FILE to it, and train with --data.manifest FILE",
        **NO_DATA,
    )
