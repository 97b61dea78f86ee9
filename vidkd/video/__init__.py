"""Files to frames and back: open, read by index or by time, stream, write, check, normalise. The only room that knows decord and PyAV."""

from vidkd.video.check import VideoCheck, check_video, normalise_video
from vidkd.video.opening import open_video
from vidkd.video.reader import Frame, VideoInfo, VideoReader
from vidkd.video.streaming import FrameStream, open_stream
from vidkd.video.writer import VIEWING_CRF, VideoWriter, write_video

__all__ = [
    "VIEWING_CRF",
    "Frame",
    "FrameStream",
    "VideoCheck",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_video",
    "normalise_video",
    "open_stream",
    "open_video",
    "write_video",
]
