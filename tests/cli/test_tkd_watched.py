"""The annotated video of vidkd tkd in a browser: it plays there, at every moment what was drawn."""

import base64
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import dump, needs_chromium
from tkd_runs import run

from vidkd.video import open_video

MOMENTS = (0.05, 1.05, 1.95)
# a page has loaded when each of its videos shows the moment that its address names
PAGE = """<!DOCTYPE html><body>%s<script>
const found = {};
const tell = (video, value) => { found[video.id] = value; document.body.dataset.found = JSON.stringify(found); };
for (const video of document.querySelectorAll("video")) {
  video.onerror = () => tell(video, video.error.message);
  video.onloadeddata = () => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    pen.drawImage(video, 0, 0);
    const pixels = [...pen.getImageData(0, 0, canvas.width, canvas.height).data];
    tell(video, {width: canvas.width, height: canvas.height, duration: video.duration, pixels: pixels});
  };
}
</script></body>"""


@pytest.fixture
def annotated(video: Path, networks: list[str], tmp_path: Path) -> Path:
    assert run(video, networks, tmp_path, "--formats", "video", "--emit-oracle") == 0
    return tmp_path / "street" / "annotated.mp4"


def pictures(path: Path) -> np.ndarray:
    """All frames of a video, (T, H, W, 3), as numbers that can be subtracted."""
    with open_video(path) as reader:
        return np.stack([frame.image for frame in reader.stream(0)]).astype(float)


def watched(folder: Path, video: Path) -> dict:
    """What a browser says of a video at each of MOMENTS: its size, duration and RGBA pixels, or the error."""
    data = base64.b64encode(video.read_bytes()).decode()
    tags = [f'<video id="at{moment}" preload="auto" muted src="data:video/mp4;base64,{data}#t={moment}"></video>' for moment in MOMENTS]
    (folder / "page.html").write_text(PAGE % "".join(tags))
    page = dump(folder, folder / "page.html", "--timeout=60000", timeout_s=180)
    match = re.search(r'data-found="([^"]*)"', page.stdout)
    assert match, page.stderr[-2000:]
    return json.loads(html.unescape(match[1]))


def test_the_annotated_video_holds_every_frame_with_what_was_drawn(video: Path, annotated: Path) -> None:
    with open_video(annotated) as drawn, open_video(video) as source:
        np.testing.assert_allclose(drawn.timestamps_s, source.timestamps_s, atol=1e-3)
    frames, bare = (pictures(path) for path in (annotated, video))
    assert frames.shape == bare.shape == (20, 64, 64, 3)
    assert np.abs(frames[0] - bare[0]).mean() > 8, "a key frame with the oracle's box"
    assert np.abs(frames[0] - frames[19]).mean() > 4, "of the other half, where another animal is"


@needs_chromium
def test_the_annotated_video_plays_in_a_browser(video: Path, annotated: Path, tmp_path: Path) -> None:
    frames, bare = (pictures(path) for path in (annotated, video))
    found = watched(tmp_path, annotated)
    for moment in MOMENTS:
        seen = found[f"at{moment}"]
        assert (seen["width"], seen["height"], seen["duration"]) == (64, 64, 2)
        shown = np.reshape(seen["pixels"], (64, 64, 4))[:, :, :3].astype(float)
        place = int(moment * 10)
        assert np.abs(shown - frames[place]).mean() < 1
        assert np.abs(shown - frames[19 - place]).mean() > 4, "of the other half, where another animal is"
    drawn = np.reshape(found["at0.05"]["pixels"], (64, 64, 4))[:, :, :3].astype(float)
    assert np.abs(drawn - bare[0]).mean() > 8, "a key frame with the oracle's box"


@needs_chromium
def test_a_video_that_does_not_play_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    found = watched(tmp_path, tmp_path / "bad.mp4")
    assert all(isinstance(found[f"at{moment}"], str) for moment in MOMENTS)
