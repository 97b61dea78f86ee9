"""Networks, pictures and entries that the tests and `make_reference.py` agree on: all from seeds, so that only numbers need to be kept."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vidkd.models.darknet import Darknet, parse_cfg, read_cfg
from vidkd.models.darknet.net import convolution_blocks

CONFIGS = Path(__file__).parents[3] / "configs" / "darknet"
REFERENCE = Path(__file__).parent / "reference"

# Every kind of layer and activation that OpenCV's importer knows: an odd side under each pooling, padding on one side only, parted routes.
EVERY_LAYER = """
[net]
width=96
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=8
groups=4
size=5
stride=1
padding=2
activation=mish
[convolutional]
filters=8
size=1
activation=swish
[dropout]
probability=.3
[shortcut]
from=-3
activation=linear
[maxpool]
size=2
stride=2
[convolutional]
batch_normalize=1
filters=12
size=3
stride=1
pad=1
activation=relu
[route]
layers=-1
groups=3
group_id=1
[convolutional]
filters=6
size=3
stride=1
pad=1
activation=logistic
[route]
layers=-1,-3,5
[maxpool]
size=2
stride=1
[maxpool]
size=5
stride=1
[route]
layers=-1,-2
[maxpool]
size=3
stride=2
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=16
size=1
stride=1
activation=linear
[shortcut]
from=-2
activation=leaky
[convolutional]
filters=24
size=1
stride=1
activation=linear
[yolo]
mask=1,2,3
anchors=8,9, 12,20, 25,17, 40,44
classes=3
num=4
scale_x_y=1.05
[route]
layers=-3
[upsample]
stride=2
[route]
layers=-1,13
[convolutional]
filters=16
size=1
stride=1
activation=linear
[yolo]
mask=0,3
anchors=8,9, 12,20, 25,17, 40,44
classes=3
num=4
"""


@dataclass(frozen=True)
class Case:
    """A network with weights from a seed, at a size (width, height). head_scale brings its raw heads to a magnitude of a few units."""

    name: str
    seed: int
    size: tuple[int, int]
    head_scale: float

    def build(self) -> Darknet:
        config = parse_cfg(EVERY_LAYER) if self.name == "every_layer" else read_cfg(CONFIGS / f"{self.name}.cfg")
        net = Darknet(config.with_input_size(*self.size)).eval()
        fill(net, self.seed)
        for head in net.heads:
            net.layers[head.layer - 1].conv.weight.data *= self.head_scale
        return net


CASES = (
    Case("every_layer", 1, (96, 64), 0.35),
    Case("yolov3_tiny", 2, (96, 64), 0.45),
    Case("yolov4_tiny", 3, (64, 96), 0.4),
    Case("tiny_student", 4, (160, 160), 0.7),
    Case("small_oracle", 5, (160, 160), 0.08),
)

# name -> stem of cfg and of weights below the folder of real data, size
REAL = {
    "real_yolov3_tiny": ("weights/yolov3_tiny/yolov3-tiny-m123", "weights/yolov3_tiny/yolov3-tiny", (416, 416)),
    "real_yolo_fastest": ("weights/yolo_fastest/yolo-fastest-1.1",) * 2 + ((320, 320),),
    "real_yolo_fastest_xl": ("weights/yolo_fastest/yolo-fastest-1.1-xl",) * 2 + ((320, 320),),
}


@torch.no_grad()
def fill(net: Darknet, seed: int) -> None:
    """Weights that keep the size of features from layer to layer. RandomState: its numbers are the same in every version of numpy."""
    rng = np.random.RandomState(seed)

    def put(tensor: torch.Tensor, values: np.ndarray) -> None:
        tensor.copy_(torch.from_numpy(values.reshape(tensor.shape).astype(np.float32)))

    for block in convolution_blocks(net):
        filters = block.conv.out_channels
        if block.norm is None:
            put(block.conv.bias, rng.normal(0, 0.3, filters))
        else:
            put(block.norm.bias, rng.normal(0, 0.2, filters))
            put(block.norm.weight, rng.uniform(0.7, 1.3, filters))
            put(block.norm.running_mean, rng.normal(0, 0.2, filters))
            put(block.norm.running_var, rng.uniform(0.5, 1.5, filters))
        fan_in = block.conv.weight[0].numel()
        put(block.conv.weight, rng.normal(0, (2 / fan_in) ** 0.5, block.conv.weight.numel()))


def noise(case: Case) -> np.ndarray:
    """The input (1, 3, H, W) float32 in [0, 1] of a case."""
    width, height = case.size
    return np.random.RandomState(100 + case.seed).uniform(0, 1, (1, 3, height, width)).astype(np.float32)


def picture(size: tuple[int, int]) -> np.ndarray:
    """A drawn scene (1, 3, H, W) float32 in [0, 1]: a clock on a wall, its face white, twelve marks and two hands."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / min(size) - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    image = np.stack([0.55 + 0.2 * y, 0.45 + 0.1 * x, 0.35 + 0.1 * y])
    image[:, radius < 0.33] = np.array([[0.15], [0.1], [0.08]])
    image[:, radius < 0.30] = 0.95
    image[:, (radius > 0.24) & (radius < 0.285) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.1)] = 0.05
    for turn, length, thick in ((0.6, 0.15, 0.012), (2.3, 0.22, 0.008)):
        along, across = x * np.sin(turn) - y * np.cos(turn), x * np.cos(turn) + y * np.sin(turn)
        image[:, (along > -0.02) & (along < length) & (np.abs(across) < thick)] = 0.05
    return image[None].astype(np.float32)
