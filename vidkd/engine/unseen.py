"""No classifier is judged by clips that it has learned from."""

from collections.abc import Sequence

from vidkd.base.errors import CheckpointError
from vidkd.data.learned_from import LearnedFrom
from vidkd.data.manifest import Clip
from vidkd.engine.clips import Clips

MEND = "judge by those groups, or train it on these"


def check_unseen(what: str, learned: LearnedFrom | None, clips: Clips, judged: Sequence[Clip], *, mend: str = MEND) -> None:
    """Raise CheckpointError where `what` learned, on this manifest, from clips by which it, or who learns from it, is judged.

    learned: None where nothing is known of it. judged: of `clips`.
    """
    if learned is None or learned.manifest != clips.data:
        return
    trained = {id(clip) for clip in learned.clips(clips.manifest)}
    if seen := sum(id(clip) in trained for clip in judged):
        raise CheckpointError(
            f"{what} learned from {seen} of the {len(judged)} clips that are to judge: it was trained on other groups",
            its_groups="   ".join(f"--{name} {value}" for name, value in learned.settings().items()),
            hint=mend,
        )
