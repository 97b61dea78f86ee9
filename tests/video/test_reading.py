"""Both decoders give the frames that were encoded, by index, by time and in order; what decord gets wrong is kept from it."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from kinds_of_files import PLAIN, PYAV_ONLY
from numbered_videos import VARIABLE_TIMES_S, add_stream, encode, number_of, numbered_image, numbers_of

from vidkd.base.errors import VideoError
from vidkd.video import check_video, containers, open_stream, open_video, pyav_reader
from vidkd.video.index import read_packets
from vidkd.video.pyav_reader import PyavReader

Made = Callable[[str], Path]
COLOUR_LEVELS = 2  # largest difference of 255 between the two decoders' conversions to RGB


def shuffled(count: int) -> list[int]:
    return np.random.default_rng(0).permutation(count).tolist()


@pytest.mark.parametrize("backend", ["decord", "pyav"])
@pytest.mark.parametrize("name", PLAIN)
def test_frames_by_index_are_the_frames_encoded(made: Made, name: str, backend: str) -> None:
    with open_video(made(name), backend=backend) as video:
        assert video.info.backend == backend
        assert len(video) == video.info.frame_count == (1 if name == "one_frame.mp4" else 60)
        order = shuffled(len(video))
        assert numbers_of(video.frames_at_indices(order)) == order
        for index in order[:10]:  # alone, so that each costs a seek
            assert number_of(video.frames_at_indices([index])[0]) == index


@pytest.mark.parametrize("name", PLAIN)
def test_decoders_agree_on_pixels_and_times(made: Made, name: str) -> None:
    with open_video(made(name), backend="decord") as fast, open_video(made(name), backend="pyav") as oracle:
        every = range(len(oracle))
        difference = fast.frames_at_indices(every).astype(int) - oracle.frames_at_indices(every)
        assert np.abs(difference).max() <= COLOUR_LEVELS
        np.testing.assert_array_equal(fast.timestamps_s, oracle.timestamps_s)
        expected = VARIABLE_TIMES_S if "variable" in name else np.arange(len(oracle)) / 25
        np.testing.assert_allclose(fast.timestamps_s, expected, atol=1e-9)


@pytest.mark.parametrize("name", [*PLAIN, *PYAV_ONLY, "av1.mp4"])
def test_frames_in_order_and_few_of_many_are_those_of_reading_all(made: Made, name: str) -> None:
    """Where few frames are needed the pictures in between are left out of decoding, which must change none of those that are needed."""
    with open_video(made(name)) as video:
        every = video.frames_at_indices(range(len(video)))
        frames = list(video.stream())
        assert [frame.index for frame in frames] == list(range(len(video)))
        np.testing.assert_array_equal([frame.time_s for frame in frames], video.timestamps_s)
        np.testing.assert_array_equal(np.stack([frame.image for frame in frames]), every)
        middle = len(video) // 2
        assert [number_of(frame.image) for frame in video.stream(middle)] == numbers_of(every[middle:])
        assert list(video.stream(start_index=len(video))) == []
        for stride in (2, 3, 4, 7, 19):
            for start in range(0, len(video), 11):
                indices = list(range(start, len(video), stride))
                np.testing.assert_array_equal(video.frames_at_indices(indices), every[indices])
        between = [5, 6, 7, 8][: len(video) - 5] or [0]
        np.testing.assert_array_equal(video.frames_at_indices(between), every[between])


def test_pictures_without_dependants_are_left_out(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = pyav_reader.decoded_frames

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for frame in real(*arguments, **options):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(pyav_reader, "decoded_frames", counted)
    with open_video(made("b_frames.mp4")) as video:
        video.frames_at_indices([0, 20, 40])
        few = len(decoded)
        video.frames_at_indices(range(41))
    assert few < 0.8 * (len(decoded) - few)


@pytest.mark.parametrize("name", PYAV_ONLY)
def test_files_that_decord_misreads_are_read_rightly(made: Made, name: str) -> None:
    _, first, reason = PYAV_ONLY[name]
    with open_video(made(name)) as video:
        assert video.info.backend == "pyav"
        assert len(video) == 60 - first
        order = shuffled(len(video))
        assert numbers_of(video.frames_at_indices(order)) == [first + index for index in order]
        for index in order:  # alone, so that each may cost a seek
            assert number_of(video.frames_at_indices([index])[0]) == first + index
        assert video.timestamps_s[0] == 0.0
        if not name.endswith(".avi"):  # that one has a made-up clock
            np.testing.assert_allclose(video.timestamps_s, np.arange(60 - first) / 25, atol=1e-9)
    with pytest.raises(VideoError, match="not reliable") as caught:
        open_video(made(name), backend="decord")
    assert reason in caught.value.lines["reason"]


@pytest.mark.parametrize("off", [-1, 1])
def test_a_seek_that_lands_elsewhere_gives_no_other_frame(made: Made, off: int) -> None:
    path = made("b_frames.mp4")
    index = read_packets(path)
    decoding_stamps = np.roll(index.keys[:, 1], -off)  # of the key frame before, or after
    assert len(index.keys) > 2
    wrong = msgspec.structs.replace(index, keys=np.stack([index.keys[:, 0], decoding_stamps], axis=1))
    with PyavReader(path, wrong, short_side=None) as video:
        order = shuffled(len(video))
        assert [number_of(video.frames_at_indices([place])[0]) for place in order] == order


def test_without_decord_everything_is_read_with_pyav(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with open_video(made("b_frames.mp4")) as video:
        assert video.info.backend == "pyav"
        assert numbers_of(video.frames_at_indices([40, 3])) == [40, 3]
    with pytest.raises(VideoError, match="pip install decord"):
        open_video(made("b_frames.mp4"), backend="decord")


def test_frame_shown_at_a_time_of_a_variable_rate_file(made: Made) -> None:
    """Frames appear at 0, 40, 80, 200, 240, 320, 360 ms, …: worked out by hand from the gaps 1, 1, 3, 1, 2, 1 of 40 ms."""
    shown = {0.0: 0, 0.039: 0, 0.04: 1, 0.079: 1, 0.08: 2, 0.15: 2, 0.1999: 2, 0.2: 3, 0.239: 3, 0.24: 4, 0.31: 4, 0.32: 5, 0.36: 6}
    for name in ("variable.mp4", "variable.mkv"):
        with open_video(made(name)) as video:
            assert numbers_of(video.frames_at_times(list(shown))) == list(shown.values())
            assert video.indices_at_times([3 * 0.04 + 0.08]) == [3]  # 0.2 up to rounding
            end_s = video.info.duration_s
            assert video.indices_at_times([end_s - 1e-4]) == [59]
            for outside in (-0.01, end_s, 9.0):
                with pytest.raises(VideoError, match="no frame at"):
                    video.frames_at_times([outside])


def test_order_and_repeats_are_kept(made: Made) -> None:
    for backend in ("decord", "pyav"):
        with open_video(made("b_frames.mp4"), backend=backend) as video:
            assert numbers_of(video.frames_at_indices([7, 7, 3, 50, 3])) == [7, 7, 3, 50, 3]
            assert video.frames_at_indices([]).shape == (0, 64, 96, 3)


@pytest.mark.parametrize("indices", [[-1], [60], [0, 1000]])
def test_index_out_of_range_is_an_error(made: Made, indices: list[int]) -> None:
    with open_video(made("b_frames.mp4")) as video, pytest.raises(VideoError, match="0 to 59"):
        video.frames_at_indices(indices)


@pytest.mark.parametrize(
    ("name", "turns"), [("quarter_left.mp4", 1), ("quarter_right.mp4", 3), ("upside_down.mp4", 2), ("mirrored.mp4", 0)]
)
def test_display_rotation_is_applied_by_both_decoders(made: Made, name: str, turns: int) -> None:
    expected = np.rot90(numbered_image(37), turns) if turns else numbered_image(37)[:, ::-1]
    for backend in ("decord", "pyav") if turns else ("pyav",):
        with open_video(made(name), backend=backend) as video:
            image = video.frames_at_indices([37])[0]
            assert (video.info.height, video.info.width) == image.shape[:2] == expected.shape[:2]
            assert np.abs(image.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("name", ["bt709.mp4", "full_range.mp4"])
def test_colour_tags_are_honoured_alike(made: Made, name: str) -> None:
    with open_video(made(name), backend="decord") as fast, open_video(made(name), backend="pyav") as oracle:
        assert np.abs(fast.frames_at_indices(range(8)).astype(int) - oracle.frames_at_indices(range(8))).max() <= COLOUR_LEVELS


def test_of_several_streams_one_is_read_throughout(tmp_path: Path) -> None:
    """FFmpeg ranks streams, and its versions rank differently: decord must not read one and the times come from another."""
    import av

    path = tmp_path / "two_streams.mp4"
    with av.open(str(path), "w") as container:
        streams = [add_stream(container, size, "libx264", "yuv420p", 12, None) for size in ((64, 96), (128, 192))]
        for number in range(30):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(numbered_image(number, stream.height, stream.width), format="rgb24")
                frame.pts, frame.time_base = number * 512, stream.time_base
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    with open_video(path) as video:
        assert video.info.backend == "pyav"
        images = video.frames_at_indices([20, 3])
        assert images.shape[1:3] == (video.info.height, video.info.width)
        assert numbers_of(images) == [20, 3]
    assert "2 streams of pictures" in str(check_video(path).index_problem)


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_short_side_is_area_averaging_of_the_full_frame(made: Made, backend: str) -> None:
    with (
        open_video(made("b_frames.mp4"), backend=backend) as full,
        open_video(made("b_frames.mp4"), backend=backend, short_side=24) as small,
    ):
        assert small.output_size == (24, 36)
        assert (small.info.height, small.info.width) == (64, 96)
        expected = cv2.resize(full.frames_at_indices([9])[0], (36, 24), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(small.frames_at_indices([9])[0], expected)
        np.testing.assert_array_equal(next(small.stream(9)).image, expected)


def test_too_large_frames_are_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_PIXELS", 64 * 96 - 1)
    for opens in (open_video, open_stream):
        with pytest.raises(VideoError, match="96 x 64"):
            opens(made("b_frames.mp4"))


@pytest.mark.parametrize("name", ["with space.mp4", "Übung – 動画.mp4", 'it\'s "quoted".mp4', "100%.mp4", "[brackets].mp4"])
def test_odd_paths(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, frames=12)
    for backend in ("decord", "pyav"):
        with open_video(path, backend=backend) as video:
            assert number_of(video.frames_at_indices([11])[0]) == 11


def test_truncated_file_is_read_up_to_the_cut_and_no_further(made: Made) -> None:
    with open_video(made("truncated.mp4")) as video:
        count = len(video)
        assert video.info.backend == "pyav"
        assert 30 < count < 120
        assert video.info.damage is not None
        assert numbers_of(video.frames_at_indices([count - 1, 0])) == [count - 1, 0]
        frames = video.stream()
        assert [number_of(next(frames).image) for _ in range(count)] == list(range(count))
        with pytest.raises(VideoError, match=f"after frames : {count}"):
            next(frames)


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_damage_in_the_middle_raises(made: Made, backend: str) -> None:
    """decord decodes ahead in a thread, so it may meet damage that lies behind the frame that is wanted; PyAV does not."""
    with open_video(made("damaged.mp4"), backend=backend) as video:
        try:
            before = number_of(video.frames_at_indices([5])[0])
        except VideoError:
            assert backend == "decord"
        else:
            assert before == 5
    with open_video(made("damaged.mp4"), backend=backend) as video, pytest.raises(VideoError, match=r"cannot (read|decode)"):
        video.frames_at_indices(range(len(video)))


def test_closed_reader_is_an_error(made: Made) -> None:
    for name in ("b_frames.mp4", "open_gop.mp4"):
        video = open_video(made(name))
        frames = video.stream()
        next(frames)
        video.close()
        video.close()
        with pytest.raises(VideoError, match="closed"):
            video.frames_at_indices([0])
        with pytest.raises(VideoError, match="closed"):
            next(frames)


def _error_of_reading(video: object) -> str:
    try:
        video.frames_at_indices([0])  # type: ignore[attr-defined]
    except VideoError as error:
        return error.what
    return "no error"


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_reader_opened_in_another_process_is_an_error_and_no_hang(made: Made) -> None:
    with open_video(made("b_frames.mp4")) as video:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=lambda: sender.send(_error_of_reading(video)))
        process.start()
        try:
            assert receiver.poll(20), "the child hangs"
            assert "another process" in receiver.recv()
            process.join(20)
        finally:
            process.kill()


@pytest.mark.data
def test_both_decoders_agree_on_real_clips(real_data: Path) -> None:
    """Reading backwards by index, with decord where it can, against one pass of the sequential oracle."""
    picked = {"decord": 0, "pyav": 0}
    for path in sorted((real_data / "clips").glob("*.[am][vpk][iv4]"))[::3]:
        with open_video(path) as oracle:
            backend = "pyav" if read_packets(path).problem else "decord"
            picked[backend] += 1
            chosen = {0, 3, len(oracle) // 3, min(len(oracle) - 1, 60)}
            sequential = {frame.index: frame.image for frame in islice(oracle.stream(), max(chosen) + 1) if frame.index in chosen}
            with open_video(path, backend=backend) as video:
                for index in sorted(chosen, reverse=True):
                    image = video.frames_at_indices([index])[0]
                    assert np.abs(image.astype(int) - sequential[index]).max() <= COLOUR_LEVELS, f"{path.name} frame {index}"
    assert min(picked.values()) >= 2
