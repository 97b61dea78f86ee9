"""Which clips a classifier has learned from, so that it is not evaluated on them. Nothing here imports torch."""

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidkd.base.errors import CheckpointError
from vidkd.data.manifest import Clip, Manifest

SETTINGS = ("split", "validation_fraction", "split_seed")
HASH_BYTES = 6
HINT = "evaluate on those groups, or train it on these"


@dataclass(frozen=True, kw_only=True)
class LearnedFrom:
    """The training clips of a classifier, as short hashes: `clips` (see `clip_hash`), and `groups` of their names.

    settings: those of `data` by which the clips were chosen, as named on the command line.
    """

    clips: frozenset[bytes]
    groups: frozenset[bytes]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, record: object) -> "LearnedFrom | None":
        """What `record_of` left in a checkpoint or an exported file; None where there is none."""
        if not isinstance(record, Mapping) or not {"clips", "groups"} <= record.keys():
            return None
        settings = {f"data.{name}": record[name] for name in SETTINGS if name in record}
        return cls(clips=_unpacked(record["clips"]), groups=_unpacked(record["groups"]), settings=settings)


def record_of(root: Path, clips: Iterable[Clip], settings: Mapping[str, Any], *, earlier: Iterable[object] = ()) -> dict[str, Any]:
    """Plain values that say what a classifier learns from.

    clips: of training, below `root`. settings: those named in SETTINGS. earlier: records of the networks that its weights come from.
    """
    clips = list(clips)
    before = [learned for learned in map(LearnedFrom.of, earlier) if learned is not None]
    hashes = {clip_hash(root, clip) for clip in clips}.union(*(learned.clips for learned in before))
    groups = {_hash(clip.group) for clip in clips}.union(*(learned.groups for learned in before))
    return {"clips": _packed(hashes), "groups": _packed(groups), **{name: settings[name] for name in SETTINGS}}


def clip_hash(root: Path, clip: Clip) -> bytes:
    """Hash of a clip's file name, the file's size and the interval: independent of the folder of the file and of the manifest."""
    path = root / clip.path
    size = path.stat().st_size if path.is_file() else 0
    return _hash(f"{PurePosixPath(clip.path).name}|{size}|{clip.start_s}|{clip.end_s}")


def check_unseen(
    what: str, learned: LearnedFrom | None, manifest: Manifest, split: str, clips: Sequence[Clip], *, hint: str = HINT
) -> None:
    """Raise CheckpointError where `what` learned from clips by which it, or who learns from it, is evaluated.

    A clip counts as learned, too, where another one of its group was, unless the split itself has that group among its training clips.
    Names of groups are compared only if the manifest holds a clip that was learned: those of another data set mean other groups.
    learned: None where nothing is known. clips: of the manifest, those to evaluate on.
    """
    if learned is None:
        return
    seen = {id(clip) for clip in clips if clip_hash(manifest.root, clip) in learned.clips}
    if seen or any(clip_hash(manifest.root, clip) in learned.clips for clip in manifest.clips):
        trained = {clip.group for clip in manifest.select(split, "train")}
        seen |= {id(clip) for clip in clips if clip.group not in trained and _hash(clip.group) in learned.groups}
    if seen:
        raise CheckpointError(
            f"{what} learned from {len(seen)} of the {len(clips)} clips to evaluate on, or from others of their groups",
            its_groups="   ".join(f"--{name} {value}" for name, value in learned.settings.items()),
            hint=hint,
        )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def _packed(hashes: Collection[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(hashes))).decode()


def _unpacked(text: str) -> frozenset[bytes]:
    data = base64.b64decode(text)
    return frozenset(data[place : place + HASH_BYTES] for place in range(0, len(data), HASH_BYTES))
