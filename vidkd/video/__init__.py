"""Files to frames and back: open, read by index or by time, stream, write, check, normalise. The only room that knows decord and PyAV."""

from vidkd.video.opening import open_video
from vidkd.video.reader import VideoReader
from vidkd.video.types import Frame, VideoInfo
from vidkd.video.writer import VideoWriter, write_video

__all__ = ["Frame", "VideoInfo", "VideoReader", "VideoWriter", "open_video", "write_video"]
