"""Eight-bit integers of a detector: vidkd's file in ONNX Runtime, and torchao's program of torch where that is installed."""

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidkd.base.yaml_files import shipped_folder
from vidkd.bench.performance.suite import Part, Setting, milliseconds
from vidkd.bench.performance.videos import moving_textures
from vidkd.compress.quantise import quantise
from vidkd.compress.recipe import QuantiseConfig
from vidkd.models.darknet.net import Darknet
from vidkd.models.darknet.onnx import INPUT, whole_model
from vidkd.runtime.networks import session_options

SIDE, QUICK_SIDE = 416, 96
FRAMES, QUICK_FRAMES = 16, 2
EAGER, COMPILED, FLOAT, OURS, PEER = "torch", "torch.compile", "ONNX Runtime", "vidkd, ONNX Runtime in integers", "torchao, in integers"
TEXT = (
    "Milliseconds a frame of tiny-YOLOv3 with drawn weights, one frame at a time on one thread, heads only. vidkd writes a file whose "
    "convolutions compute in integers by ONNX Runtime's static quantiser, which runs where there is no torch; torchao's quantiser (pt2e, "
    "for x86) makes a program of torch, which torch.compile has to build, by a C++ compiler, where it runs. Ranges of both are found on "
    "the same generated frames. Signal to noise is that of the heads against torch in float, on another frame."
)
Heads: TypeAlias = list[NDArray[np.float32]]
Run: TypeAlias = Callable[[NDArray[np.float32]], Heads]


def measure_integers(setting: Setting) -> Part:
    """All of them in turn."""
    torch.set_num_threads(1)
    runs, integers = alternatives(quick=setting.quick)
    frame = pictures(1, seed=1, side=QUICK_SIDE if setting.quick else SIDE)
    noise = {name: signal_to_noise(runs[EAGER](frame), each(frame)) for name, each in runs.items() if name != EAGER}
    part = Part(
        title="Integers of a detector and their peer",
        text=TEXT,
        settings={
            "network": f"tiny-YOLOv3, {frame.shape[-1]}x{frame.shape[-1]}",
            "convolutions in integers": "; ".join(f"{name} {count}" for name, count in integers.items()),
            "signal to noise of the heads": "; ".join(f"{name} {found:.1f} dB" for name, found in noise.items()),
            "frames that ranges are found on": QUICK_FRAMES if setting.quick else FRAMES,
            "threads": 1,
            "libraries": ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", *(["torchao"] if PEER in runs else []))),
        },
        notes=[] if PEER in runs else ["torchao is not installed, or left out for being quick (`pip install torchao`)."],
    )
    timed = {name: partial(milliseconds, partial(each, frame), 1 if setting.quick else 10) for name, each in runs.items()}
    part.compare(timed, "ms/frame", [(OURS, name, "") for name in timed if name != OURS], rounds=setting.rounds)
    return part


def alternatives(*, quick: bool = False) -> tuple[dict[str, Run], dict[str, int]]:
    """What answers, by name; and of those in integers how many convolutions are. quick: without what a compiler builds for minutes."""
    side = QUICK_SIDE if quick else SIDE
    torch.manual_seed(0)
    net = Darknet.from_cfg(shipped_folder() / "darknet" / "yolov3_tiny.cfg", input_size=(side, side)).eval()
    shown = [pictures(1, seed=number, side=side) for number in range(2, 2 + (QUICK_FRAMES if quick else FRAMES))]
    content = whole_model(net).SerializeToString()
    made = quantise(content, [{INPUT: frame} for frame in shown], QuantiseConfig())
    runs = {EAGER: _torch(net), FLOAT: _onnx(content), OURS: _onnx(made.graph)}
    integers = {OURS: made.convolutions}
    if not quick:
        runs[COMPILED] = _torch(torch.compile(net))
    if not quick and importlib.util.find_spec("torchao") is not None:
        program, integers[PEER] = _by_torchao(net, shown)
        runs[PEER] = _torch(program)
    return runs, integers


def pictures(count: int, *, seed: int, side: int) -> NDArray[np.float32]:
    """(count, 3, side, side) in [0, 1]."""
    found = np.stack(list(moving_textures(side, side, count, seed=seed)))
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def signal_to_noise(wanted: Heads, found: Heads) -> float:
    """Of all heads together, in decibels; infinite for equal ones."""
    one, other = (np.concatenate([part.ravel() for part in heads]).astype(np.float64) for heads in (wanted, found))
    with np.errstate(divide="ignore"):
        return 10 * float(np.log10((one @ one) / np.float64(((one - other) ** 2).sum())))


def _torch(net: Callable[[Tensor], Any]) -> Run:
    @torch.no_grad()
    def answer(frame: NDArray[np.float32]) -> Heads:
        return [head.numpy() for head in net(torch.from_numpy(frame))]

    return answer


def _onnx(content: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, session_options("export", threads=1), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name.startswith("head_")]
    return lambda frame: list(session.run(names, {INPUT: frame}))


def _by_torchao(net: nn.Module, shown: list[NDArray[np.float32]]) -> tuple[Callable[[Tensor], Any], int]:
    """The compiled program, and how many convolutions have quantised weights in it."""
    from torch._inductor import config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config.freezing = True  # what torchao asks for, so that weights are packed once
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        prepared = prepare_pt2e(torch.export.export(net, (torch.from_numpy(shown[0]),)).module(), quantizer)
        for frame in shown:
            prepared(torch.from_numpy(frame))
        program = convert_pt2e(prepared)
    weights = [node for node in program.graph.nodes if "dequantize_per_channel" in str(node.target)]
    return torch.compile(program), len(weights)
