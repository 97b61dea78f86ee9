"""An hour of video: what stays in memory is what docs/guides/detection.md says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from started import run_to_end
from stream_samples import FPS, HEIGHT, WIDTH, make_video, rows

from vidkd.video.writer import join_videos

SCRIPT = """
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
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path / "hour.mp4"), str(tmp_path / "out")]
    held_mib = np.asarray(json.loads(run_to_end(command, timeout_s=3600, check=True).stdout))
    assert len(rows(tmp_path / "out")) == 400 * loops
    early, late = held_mib[10:30].max(), held_mib[-20:].max()
    pictures_mib = 46 * HEIGHT * WIDTH * 3 / 2**20
    assert late - early < pictures_mib + 400 * loops * 600 / 2**20, held_mib.round(1).tolist()
