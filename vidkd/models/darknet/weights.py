"""Darknet `.weights` files: a header and little-endian float32 numbers in the order of the cfg.

Header: major, minor, revision (int32) and how many images were seen in training, as 64 bits from version 0.2 on and 32 bits before
(a file whose major or minor is 1000 or more has 32 too). Then for each convolution: biases; with batch normalisation its weights, means and
variances; the kernel (filters, channels / groups, size, size). Layout as darknet itself reads and writes it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidkd.base.errors import CheckpointError
from vidkd.base.files import atomic_write, reason_of
from vidkd.models.darknet.net import Darknet, convolution_blocks

VERSION = (0, 2, 5)
"""Of the files that are written."""


def load_weights(net: Darknet, path: Path | str) -> None:
    """Fill `net` from a `.weights` file, whole or not at all.

    Raises CheckpointError if the file is missing, holds more or fewer numbers than the cfg wants (both counts are named), or NaN,
    infinity or a negative variance: a file of another cfg may have the right length by chance.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read weights {path}", reason=reason_of(error), hint="give the path of a .weights file") from error
    major, minor = np.frombuffer(content[:8].ljust(8, b"\0"), "<i4").tolist()
    body = content[20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16 :]
    wanted = sum(tensor.numel() for _, tensor in weight_tensors(net))
    if len(body) != 4 * wanted:
        raise CheckpointError(
            f"weights do not fit the cfg: {path}",
            cfg_wants=f"{wanted} numbers ({net.config.where(0)}, {net.classes} classes)",
            file_holds=f"{len(body) / 4:.12g} numbers, {'too few' if len(body) < 4 * wanted else 'too many'}",
            hint="the file is truncated or belongs to another cfg or number of classes",
        )
    numbers = torch.from_numpy(np.frombuffer(body, "<f4").astype(np.float32))
    parts = torch.split(numbers, [tensor.numel() for _, tensor in weight_tensors(net)])
    pairs = [(name, tensor, part) for (name, tensor), part in zip(weight_tensors(net), parts, strict=True)]
    if not all(part.isfinite().all() and (name != "running_var" or part.min() >= 0) for name, _, part in pairs):
        reason = "it holds numbers that are not finite, or negative variances"
        hint = "the file is damaged or belongs to another cfg"
        raise CheckpointError(f"weights do not fit the cfg: {path}", reason=reason, hint=hint)
    with torch.no_grad():
        for _, tensor, part in pairs:
            tensor.copy_(part.view(tensor.shape))


def save_weights(net: Darknet, path: Path | str, *, images_seen: int = 0) -> None:
    """Write the weights of `net`, of any device and floating type, as float32; the file appears whole or not at all.

    images_seen: in training, for the header. Raises OSError as the file system does.
    """
    with atomic_write(path, "wb") as file:
        file.write(np.array(VERSION, "<i4").tobytes() + np.array(images_seen, "<u8").tobytes())
        for _, tensor in weight_tensors(net):
            file.write(tensor.detach().to("cpu", torch.float32).numpy().astype("<f4").tobytes())


def weight_tensors(net: Darknet) -> Iterator[tuple[str, Tensor]]:
    """All tensors in the order of the file, each with the name of its kind."""
    for block in convolution_blocks(net):
        parts = dict(block.conv.named_parameters()) if block.norm is None else dict(block.norm.state_dict())
        names = ("bias",) if block.norm is None else ("bias", "weight", "running_mean", "running_var")
        yield from ((name, parts[name]) for name in names)
        yield "kernel", block.conv.weight
