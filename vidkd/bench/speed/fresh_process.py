"""What a fresh process does for a cold start: import, open, answer once, and tell how long each took and how much memory it held.

Run by `cold_start.py` as `python -m vidkd.bench.speed.fresh_process`: a request comes as JSON on standard input, a line goes back that
begins with MARK, for libraries may write to standard output too.
An exported file is opened without torch, as `vidkd predict` opens it.
"""

import json
import sys
from pathlib import Path
from typing import Any

MARK = "vidkd cold start: "


def main() -> int:
    """Answer one request: {"spec", "shape", "threads", "device"}."""
    request = json.load(sys.stdin)
    from vidkd.base.errors import VidkdError

    try:
        found = start(request)
    except VidkdError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")  # on a line of its own, whatever was written before
    return 0


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Open the model and answer one sample of noise."""
    from vidkd.bench.speed.config import ModelSpec, ShapeSpec
    from vidkd.bench.speed.opening import open_model
    from vidkd.bench.speed.rounds import clock_of

    spec, shape = ModelSpec(**request["spec"]), ShapeSpec(**request["shape"])
    opened = open_model(spec, threads=request["threads"], device=request["device"], shape=shape)
    opened.begin()
    sample = opened.input.noise(1, 0)
    answer_s = clock_of(opened.device)(lambda: opened.answer(sample))
    return {"answer_s": answer_s, "peak_bytes": peak_bytes(), "peak_gpu_bytes": peak_gpu_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has held. ru_maxrss is not reset when a process is started, so Linux's own mark comes first."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_bytes() -> int | None:
    """The most memory of tensors on the GPU; None without CUDA in use."""
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    return int(cuda.max_memory_allocated()) if cuda is not None and cuda.is_initialized() else None


if __name__ == "__main__":
    sys.exit(main())
