"""Parts that were encoded one by one, as one file: every frame once, at its own time, bit for bit as it was coded."""

from pathlib import Path

import numpy as np
import pytest
from numbered_videos import numbered_image, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import open_video, write_video
from vidkd.video.writer import join_videos

TIMES_S = [0.0, 0.04, 0.1, 0.5, 0.54, 0.6, 2.0, 2.04, 2.5]


def part(path: Path, numbers: range, size: tuple[int, int] = (64, 96), **options) -> tuple[Path, list[float]]:
    times_s = [TIMES_S[number] for number in numbers]
    images = [numbered_image(number, *size) for number in numbers]
    write_video(path, images, fps=25, times_s=[time_s - times_s[0] for time_s in times_s], **options)
    return path, times_s


@pytest.fixture
def parts(tmp_path: Path) -> list[tuple[Path, list[float]]]:
    return [part(tmp_path / f"{place}.mp4", numbers) for place, numbers in enumerate((range(4), range(4, 5), range(5, 9)))]


def test_frames_and_times_are_those_of_the_parts(parts, tmp_path):
    assert join_videos(tmp_path / "whole.mp4", iter(parts), fps=25) == 9
    with open_video(tmp_path / "whole.mp4") as whole:
        np.testing.assert_allclose(whole.timestamps_s, TIMES_S, atol=1 / 90_000)
        assert whole.info.duration_s == pytest.approx(2.54, abs=1e-4)
        images = whole.frames_at_indices(range(9))
        assert whole.info.codec == "h264"
    assert numbers_of(images) == list(range(9))
    coded = []
    for path, _ in parts:
        with open_video(path) as video:
            coded.append(video.frames_at_indices(range(len(video))))
    np.testing.assert_array_equal(images, np.concatenate(coded))


def test_any_frame_can_be_sought(parts, tmp_path):
    join_videos(tmp_path / "whole.mp4", parts, fps=25)
    for backend in ("decord", "pyav"):
        with open_video(tmp_path / "whole.mp4", backend=backend) as whole:
            assert [numbers_of(whole.frames_at_indices([place]))[0] for place in (8, 4, 0, 5, 3)] == [8, 4, 0, 5, 3]


def test_the_index_is_at_the_front(parts, tmp_path):
    join_videos(tmp_path / "whole.mp4", parts, fps=25)
    content = (tmp_path / "whole.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_one_more_or_one_less_frame_is_found_out(parts, tmp_path):
    path, times_s = parts[2]
    with pytest.raises(VideoError, match=r"more than 3 frames in: .*2\.mp4"):
        join_videos(tmp_path / "whole.mp4", [*parts[:2], (path, times_s[:-1])], fps=25)
    with pytest.raises(VideoError, match=r"only 4 frames in: .*2\.mp4"):
        join_videos(tmp_path / "whole.mp4", [*parts[:2], (path, [*times_s, 9.0])], fps=25)
    assert not list(tmp_path.glob("*whole*"))
    assert not list(tmp_path.glob(".*"))


def test_parts_of_another_kind_are_refused(parts, tmp_path):
    other = part(tmp_path / "other.mp4", range(5, 9), size=(64, 64))
    with pytest.raises(VideoError, match=r"encoded in another way than the parts before it: .*other\.mp4"):
        join_videos(tmp_path / "whole.mp4", [*parts[:2], other], fps=25)


def test_nothing_and_no_place_for_it(parts, tmp_path):
    (tmp_path / "whole.mp4").write_bytes(b"before")
    with pytest.raises(VideoError, match="no frame was written"):
        join_videos(tmp_path / "whole.mp4", [], fps=25)
    assert (tmp_path / "whole.mp4").read_bytes() == b"before"
    with pytest.raises(VideoError, match="cannot write video"):
        join_videos(tmp_path / "no" / "whole.mp4", parts, fps=25)
