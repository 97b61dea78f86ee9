"""What a classifier is shown of a running video at some time: the same part and the same frames as in its training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.data.config import DataConfig
from vidkd.data.observation import Seconds, window_in
from vidkd.data.windows import SAME_S, Window
from vidkd.runtime.metadata import View

WINDOW_S = 2.0
LONGEST_S = 10.0
TRAINED_FOR = {
    "anticipation": "anticipation",
    "early": "early recognition, of clips seen in part",
    "whole": "recognition of whole clips",
}
"""Each protocol in words."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Which seconds before now a classifier sees, and of which moment it speaks.

    protocol: what it was trained with. seconds: how far back its windows reach. gap_s: how far ahead the moment is of which it speaks;
    0 for a classifier that was trained without a gap. assumed: `seconds` is no setting of its training. pairs: flow pairs lie inside too.
    """

    protocol: str
    seconds: float
    gap_s: float
    assumed: bool
    pairs: bool
    data: DataConfig

    @property
    def needed(self) -> int:
        """Frames of the video that a window reaches over; 1 where frames may be repeated."""
        window = self.data.window
        return 1 if window.short_clip == "hold" else window.sampled_span + (window.pair_step if self.pairs else 0)

    def part(self, time_s: float) -> Seconds:
        """The seconds that are seen at a time; the frame shown at that very time belongs to them."""
        return Seconds(max(0.0, time_s - self.seconds), time_s, closed=True)

    def reaches_s(self, time_s: float) -> float:
        """Frames before this time are seen neither at `time_s` nor later."""
        return self.part(time_s).start_s - SAME_S

    def windows(self, timestamps_s: NDArray[np.float64], time_s: float) -> tuple[list[Window], bool]:
        """The windows that an evaluation takes of that part, and whether frames are repeated in one of them.

        timestamps_s: (N,) of all frames of the part at least. Raises DataError if the part has no frames, or too few for a window.
        """
        clips = self.data.eval_clips
        name = f"{self.seconds:g} s before {time_s:.2f} s"
        found = [
            window_in(self.part(time_s), timestamps_s, self.data.window, (number + 0.5) / clips, self.pairs, name)
            for number in range(clips)
        ]
        return [window for window, _ in found], any(held for _, held in found)


def sight_of(data: DataConfig, view: View, *, window_s: float | None = None) -> Sight:
    """The sight of a classifier that was trained with these settings.

    window_s: seconds that are seen where training does not say: of a running video it is `WINDOW_S` for a classifier of whole or partly
    seen clips, which is shown the window as a clip that it sees whole, and `LONGEST_S` for anticipation from all since the beginning.
    Raises ConfigError if training does say, if it is not above 0, or for flow that is stored.
    """
    if view == "flow" and data.flow.source == "stored":
        raise ConfigError(
            "this network was trained on flow that is stored for the clips of its data set; a running video has none",
            found="data.flow.source=stored",
            hint="a network of RGB, or one trained with data.flow.source=dis",
        )
    if window_s is not None and not 0 < window_s < np.inf:
        raise ConfigError(f"the window must be above 0 seconds, not {window_s:g}")
    observe = data.observe
    anticipates = observe.protocol == "anticipation"
    if anticipates and observe.observe_s is not None and window_s is not None:
        raise ConfigError(
            f"this network sees {observe.observe_s:g} s, as in its training; it cannot be given {window_s:g} s",
            hint="leave --window-s out",
        )
    trained_s = observe.observe_s if anticipates else None
    seconds = trained_s or window_s or (LONGEST_S if anticipates else WINDOW_S)
    return Sight(
        protocol=observe.protocol,
        seconds=seconds,
        gap_s=observe.gap_s if anticipates else 0.0,
        assumed=trained_s is None,
        pairs=view == "flow" or observe.protocol == "whole",  # windows of whole clips leave room for a pair whatever the view
        data=data,
    )
