"""A stream from its frames to its files: what is in them, that no interruption shows in them, and what an hour costs."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from started import run_to_end, started
from stream_samples import FPS, HEIGHT, NAMES, WIDTH, CountingStepper, SquareDetector, check_same, copied, make_video, pictures, rows, walk

from vidkd.base.errors import ConfigError, DataError
from vidkd.detection.stream import folder as folders
from vidkd.detection.stream import run
from vidkd.detection.stream.folder import Work
from vidkd.detection.stream.run import in_real_time
from vidkd.video import Frame, open_video, write_video, writer
from vidkd.video.writer import join_videos

FILES = {"annotated.mp4", "coco.json", "detections.csv", "detections.jsonl", "mot.txt", "run.json"}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return make_video(tmp_path_factory.mktemp("stream") / "square.mp4")


@pytest.fixture(scope="module")
def whole(video, tmp_path_factory) -> Path:
    """The files of a run that nothing interrupted: 50 frames in parts of 12."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert walk(video, folder)["status"] == "done"
    return folder


def test_every_format_holds_every_frame(video, whole):
    lines = rows(whole)
    assert [line["frame"] for line in lines] == list(range(50))
    with open_video(video) as source, open_video(whole / "annotated.mp4") as drawn:
        assert [line["time_s"] for line in lines] == source.timestamps_s.tolist()
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s, atol=1 / 90_000)
        assert drawn.info.average_fps == pytest.approx(FPS)
        expected = [found for frame in source.stream() for found in SquareDetector()(frame.image[None])]
        shown = drawn.frames_at_indices([0, 13, 49])
        plain = source.frames_at_indices([0, 13, 49])
    for line, found in zip(lines, expected, strict=True):
        assert line["boxes"] == found.boxes.tolist()
        assert line["classes"] == [NAMES[label] for label in found.labels]
    assert lines[-1]["before"] == {"frames": 50, "sum": sum(float(found.boxes.sum()) for found in expected)}
    assert (np.abs(shown.astype(int) - plain).max((1, 2, 3)) > 100).all(), "boxes are drawn"

    coco = json.loads((whole / "coco.json").read_text())
    assert [image["id"] for image in coco["images"]] == list(range(50))
    assert coco["images"][7]["file_name"] == "square.mp4#7"
    assert (coco["images"][7]["width"], coco["images"][7]["height"]) == (64, 48)
    assert len(coco["annotations"]) == 50
    mot = np.loadtxt(whole / "mot.txt", delimiter=",")
    np.testing.assert_array_equal(mot[:, 0], np.arange(1, 51))
    np.testing.assert_array_equal(mot[:, 2:4] + mot[:, 4:6], [line["boxes"][0][2:] for line in lines])
    table = (whole / "detections.csv").read_text().splitlines()
    assert len(table) == 51
    assert table[1].startswith("0,0.0,")
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["frames"] == 50
    assert sum(summary["detections"].values()) == 50
    assert set(summary["frames_per_second"]) == {"decode", "infer", "draw", "encode", "end_to_end"}
    assert {path.name for path in whole.iterdir()} == FILES | {"summary.json"}


def test_a_variable_rate_is_kept(tmp_path):
    times_s = np.cumsum([0, *np.random.default_rng(2).integers(1, 9, 29)]) / 50
    write_video(tmp_path / "v.mp4", pictures(30), fps=FPS, times_s=times_s.tolist())
    walk(tmp_path / "v.mp4", tmp_path / "out", formats=("video", "jsonl"))
    with open_video(tmp_path / "v.mp4") as source, open_video(tmp_path / "out" / "annotated.mp4") as drawn:
        np.testing.assert_allclose(source.timestamps_s, times_s, atol=1e-4)
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s, atol=1 / 90_000)


def test_formats_that_were_not_asked_for_are_not_written(video, whole, tmp_path):
    summary = walk(video, tmp_path / "out", formats=("csv",))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json", "summary.json", "detections.csv"}
    assert (tmp_path / "out" / "detections.csv").read_bytes() == (whole / "detections.csv").read_bytes()
    assert "draw" not in summary["frames_per_second"]
    assert summary["files"] == ["detections.csv"]


def test_every_third_frame_of_the_first_second(video, tmp_path):
    walk(video, tmp_path / "out", every=3, seconds=1.0, part_frames=4)
    assert [line["frame"] for line in rows(tmp_path / "out")] == [0, 3, 6, 9, 12, 15, 18]
    with open_video(tmp_path / "out" / "annotated.mp4") as drawn:
        np.testing.assert_allclose(drawn.timestamps_s, np.arange(7) * 3 / FPS, atol=1e-4)


class Killed(BaseException):
    """What a SIGKILL is to the code: nothing after it runs."""


PLACES = [(Work, "write"), (Work, "commit"), (folders, "write_json"), (folders, "atomic_write"), (writer.os, "replace"),
          (folders.VideoWriter, "close"), (Work, "write_output"), (Work, "finish"), (folders.shutil, "copyfile")]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=lambda place: getattr(place, "__name__", place))
def test_a_run_killed_anywhere_goes_on_without_a_trace(owner, name, video, whole, tmp_path, monkeypatch):
    """At the first, the second, ... call of each function that writes: die there, begin again, compare."""
    true, deaths = getattr(owner, name), 0
    for fatal in (1, 2, 7):
        calls = []

        def dies(*arguments, calls=calls, fatal=fatal, **keywords):
            calls.append(name)
            if len(calls) == fatal:
                raise Killed
            return true(*arguments, **keywords)

        folder = tmp_path / str(fatal)
        with monkeypatch.context() as patch:
            patch.setattr(Work, "abort", lambda self: None)
            patch.setattr(owner, name, dies)
            try:
                walk(video, folder)
            except Killed:
                deaths += 1
        walk(video, folder)
        check_same(folder, whole)
    assert deaths


SCRIPT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from stream_samples import SquareDetector, walk
os.fsync = lambda descriptor: None
look = SquareDetector._one
SquareDetector._one = lambda detector, frame: time.sleep(0.01) or look(detector, frame)  # or a quick machine is done before it is killed
for line in sys.stdin:
    if not os.fork():
        walk(sys.argv[2], __import__("pathlib").Path(line.strip()), part_frames=4)
        os._exit(0)
    sys.stdout.write("started\\n"); sys.stdout.flush()
    sys.stdout.write(f"{os.wait()[1]}\\n"); sys.stdout.flush()
"""


def test_a_process_killed_at_random_moments_goes_on_without_a_trace(video, tmp_path):
    """SIGKILL to real processes, forked from one that has imported everything."""
    walk(video, tmp_path / "whole", part_frames=4)
    chance, killed = random.Random(5), 0
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(video)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        for _ in range(12):
            parent.stdin.write(f"{tmp_path / 'killed'}\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "started\n"
            time.sleep(chance.uniform(0.02, 0.15))
            for child in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            killed += int(parent.stdout.readline()) == signal.SIGKILL
            if (tmp_path / "killed" / "summary.json").exists():
                break
        parent.stdin.close()
    assert killed
    walk(video, tmp_path / "killed", part_frames=4)
    check_same(tmp_path / "killed", tmp_path / "whole")


def test_only_what_was_not_whole_is_done_again(video, whole, tmp_path, caplog):
    asked = []
    stopped = walk(video, tmp_path / "out", stop=lambda: len(asked) == 2 or asked.append(1))
    assert (stopped["status"], stopped["frames"]) == ("stopped", 36)
    assert not (tmp_path / "out" / "annotated.mp4").exists()
    stepper = CountingStepper(SquareDetector())
    with caplog.at_level(logging.INFO, logger="vidkd"):
        assert walk(video, tmp_path / "out", stepper=stepper, batch=2)["status"] == "done"
    assert f"{video}: resumed after 36 frames that are done" in caplog.text
    assert stepper.restored == 1
    assert sum(stepper._detector.batches) == 14
    check_same(tmp_path / "out", whole)


def test_a_finished_run_is_found(video, whole, tmp_path, monkeypatch):
    folder = copied(whole, tmp_path / "out")
    monkeypatch.setattr(run, "open_source", None)
    assert walk(video, folder)["status"] == "found"
    check_same(folder, whole)


def test_a_file_that_was_taken_away_is_missed(video, whole, tmp_path):
    folder = copied(whole, tmp_path / "out")
    (folder / "mot.txt").unlink()
    with pytest.raises(ConfigError, match=r"is finished, but mot\.txt is missing"):
        walk(video, folder)


def test_other_settings_are_told_and_nothing_is_touched(video, whole, tmp_path):
    finished = copied(whole, tmp_path / "finished")
    with pytest.raises(ConfigError, match=r"\(finished\) was made with other settings") as caught:
        walk(video, finished, settings={"model": "sha256 4567", "classes": ["left"]}, every=2)
    assert caught.value.lines["model"] == "sha256 0123, now sha256 4567"
    assert caught.value.lines["every"] == "1, now 2"
    assert caught.value.lines["classes"] == 'not given, now ["left"]'
    assert "--overwrite" in caught.value.lines["fix"]
    check_same(finished, whole)

    unfinished = tmp_path / "unfinished"
    walk(video, unfinished, stop=lambda: True)
    with pytest.raises(ConfigError, match=r"\(unfinished\)"):
        walk(video, unfinished, settings={"model": "sha256 4567"})
    assert walk(video, unfinished, overwrite=True, settings={"model": "sha256 4567"})["frames"] == 50


def test_work_that_is_missing_or_damaged_is_an_error(video, tmp_path):
    asked = []
    walk(video, tmp_path / "out", stop=lambda: len(asked) == 2 or asked.append(1))
    folder = tmp_path / "out" / ".work"
    whole = (folder / "lines.jsonl").read_bytes()
    (folder / "lines.jsonl").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"the unfinished run is damaged: .*work") as caught:
        walk(video, tmp_path / "out")
    assert "is cut off" in caught.value.lines["reason"]
    (folder / "done.msgpack").write_text("[]")
    with pytest.raises(DataError, match=r"the unfinished run is damaged: .*work"):
        walk(video, tmp_path / "out")
    assert walk(video, tmp_path / "out", overwrite=True)["frames"] == 50


def test_a_run_that_got_nowhere_binds_nobody(video, tmp_path):
    class Broken(CountingStepper):
        def end(self, frames, begun):
            raise ConfigError("no such region")

    with pytest.raises(ConfigError, match="no such region"):
        walk(video, tmp_path / "out", stepper=Broken(), settings={"region": "wrong"})
    assert not (tmp_path / "out").exists()
    assert walk(video, tmp_path / "out", settings={"region": "right"})["frames"] == 50


def test_files_of_others_are_not_replaced(video, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "coco.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"the output exists: .*coco\.json"):
        walk(video, tmp_path / "out")
    assert (tmp_path / "out" / "coco.json").read_text() == "mine"
    (tmp_path / "out" / "notes.txt").write_text("mine too")
    walk(video, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine too"
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["images"]


def test_files_that_only_another_verb_writes_are_left_alone(video, tmp_path):
    """Those of tkd, say, which names them itself."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("of a run that trained")
    with pytest.raises(ConfigError, match=r"the output exists: .*report\.html"):
        folders.claim(tmp_path / "out", {}, overwrite=False, added=("report.html",))
    walk(video, tmp_path / "out")
    walk(video, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "report.html").read_text() == "of a run that trained"
    folders.claim(tmp_path / "out", {}, overwrite=True, added=("report.html",))
    assert not (tmp_path / "out" / "report.html").exists()


def test_an_error_within_a_locked_folder_is_no_other_process(tmp_path):
    with pytest.raises(BlockingIOError), folders.locked(tmp_path):
        raise BlockingIOError


def test_two_do_not_work_in_one_folder(video, whole, tmp_path):
    """Each would take the other's part for its own: frames would be missing."""
    inside, let = threading.Event(), threading.Event()

    class Slow(CountingStepper):
        def end(self, frames, begun):
            inside.set()
            assert let.wait(20)
            return super().end(frames, begun)

    first = threading.Thread(target=walk, args=(video, tmp_path / "out"), kwargs={"stepper": Slow()})
    first.start()
    assert inside.wait(20)
    try:
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=r"another process works in .*out"):
                walk(video, tmp_path / "out", overwrite=overwrite)
    finally:
        let.set()
        first.join(20)
    check_same(tmp_path / "out", whole)
    assert walk(video, tmp_path / "out")["status"] == "found"


def test_frames_in_real_time_come_no_sooner_than_their_times():
    now, waits = [100.0], []

    def sleep(seconds):
        waits.append(round(seconds, 6))
        now[0] += seconds

    frames = [Frame(image=np.zeros((2, 2, 3), np.uint8), index=index, time_s=5 + index / 10) for index in range(5)]
    for frame in in_real_time(iter(frames), lambda: now[0], sleep):
        now[0] += 0.15 if frame.index == 1 else 0.04  # one frame takes longer than it lasts
    assert waits == [0.06, 0.01, 0.06]


MEMORY_SCRIPT = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from stream_samples import SquareDetector, walk

class Watched(SquareDetector):
    held_mib, frames = [], 0

    def __call__(self, frames):
        if self.frames // 500 != (self.frames + len(frames)) // 500:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.held_mib.append(pages * resource.getpagesize() / 2**20)
        self.frames += len(frames)
        return super().__call__(frames)

from vidkd.detection.stream import DetectorStepper
detector = Watched()
walk(sys.argv[2], Path(sys.argv[3]), stepper=DetectorStepper(detector), part_frames=240, batch=8)
print(json.dumps(detector.held_mib))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory of a process is read from /proc")
def test_an_hour_of_video_costs_no_more_memory_than_its_frames_times(tmp_path: Path) -> None:
    """A short video many times over, 72,000 frames, in every format. Held at once are 62 pictures, whatever the length."""
    loops, short = 180, make_video(tmp_path / "short.mp4", 400)
    looped = ((short, [(400 * loop + index) / FPS for index in range(400)]) for loop in range(loops))
    assert join_videos(tmp_path / "hour.mp4", looped, fps=FPS) / FPS == 3600
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(Path(__file__).parent), str(tmp_path / "hour.mp4"), str(tmp_path / "out")]
    held_mib = np.asarray(json.loads(run_to_end(command, timeout_s=3600, check=True).stdout))
    assert len(rows(tmp_path / "out")) == 400 * loops
    early, late = held_mib[10:30].max(), held_mib[-20:].max()
    pictures_mib = 46 * HEIGHT * WIDTH * 3 / 2**20
    assert late - early < pictures_mib + 400 * loops * 600 / 2**20, held_mib.round(1).tolist()
