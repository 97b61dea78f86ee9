"""Sources that are watched in order: what they end with."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vidkd.base.errors import VideoError
from vidkd.inference.sources import open_source
from vidkd.video import write_video


def test_a_file_that_was_cut_between_two_packets_is_not_whole(frames_of: Callable[..., np.ndarray], tmp_path: Path) -> None:
    """No packet is torn, and the index at the file's beginning promises all frames."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, frames_of(0, 0), fps=25)
    with av.open(str(whole)) as container:
        places = sorted(packet.pos for packet in container.demux(video=0) if packet.pos is not None and packet.size)
    cut.write_bytes(whole.read_bytes()[: places[7]])
    seen: list[int] = []
    with open_source(str(cut)) as source, pytest.raises(VideoError, match="the video is not whole") as caught:
        seen.extend(frame.index for frame in source.frames)
    assert seen == list(range(len(seen)))
    assert 0 < len(seen) <= 7
    assert str(cut) in str(caught.value)


def test_a_whole_file_ends_in_peace(frames_of: Callable[..., np.ndarray], tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", frames_of(0, 0), fps=25)
    with open_source(str(tmp_path / "whole.mp4")) as source:
        assert [frame.index for frame in source.frames] == list(range(12))
