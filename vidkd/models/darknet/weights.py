"""Darknet `.weights` files: a header and little-endian float32 numbers in the order of the cfg.

Header: major, minor, revision (int32) and how many images were seen in training, as 64 bits from version 0.2 on and 32 bits before
(a file whose major or minor is 1000 or more has 32 too). Then for each convolution: biases; with batch normalisation its weights, means and
variances; the kernel (filters, channels / groups, size, size). Layout as darknet itself reads and writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.errors import CheckpointError
from vidkd.base.files import atomic_write, reason_of
from vidkd.models.darknet.net import Darknet, convolution_blocks

VERSION_FIELDS = 3


@dataclass(frozen=True, kw_only=True)
class WeightsHeader:
    """Version of the format, and the images seen in training."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def seen_type(self) -> np.dtype[np.uint64] | np.dtype[np.uint32]:
        """How `seen` is stored."""
        long = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return np.dtype("<u8") if long else np.dtype("<u4")

    def to_bytes(self) -> bytes:
        """As the file begins."""
        version = np.array([self.major, self.minor, self.revision], "<i4")
        return version.tobytes() + np.array([self.seen], self.seen_type).tobytes()


def load_weights(net: Darknet, path: Path | str) -> WeightsHeader:
    """Fill `net` from a `.weights` file; returns its header.

    The network is filled whole or not at all. Raises CheckpointError if the file is missing, is no weights file, holds more or fewer
    numbers than the cfg wants (both counts are named), or holds NaN, infinity or a negative variance.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read weights {path}", reason=reason_of(error), hint="give the path of a .weights file") from error
    header, start = _header(content, path)
    numbers = np.frombuffer(content, "<f4", (len(content) - start) // 4, start).astype(np.float32)
    _check_count(net, numbers, (len(content) - start) % 4, path)
    _check_values(net, numbers, path)
    with torch.no_grad():
        for (_, tensor), values in zip(_tensors(net), _portions(net, numbers), strict=True):
            tensor.copy_(torch.from_numpy(values).view(tensor.shape))
    return header


def save_weights(net: Darknet, path: Path | str, header: WeightsHeader | None = None) -> None:
    """Write the weights of `net`, of any device and floating type, as float32; the file appears whole or not at all.

    header: by default version 0.2.5 with no image seen. Raises OSError as the file system does.
    """
    with atomic_write(path, "wb") as file:
        file.write((header or WeightsHeader()).to_bytes())
        for _, tensor in _tensors(net):
            file.write(tensor.detach().to("cpu", torch.float32).numpy().astype("<f4").tobytes())


def count_numbers(net: Darknet) -> int:
    """How many numbers a weights file of this network holds after its header."""
    return sum(tensor.numel() for _, tensor in _tensors(net))


def _tensors(net: Darknet) -> Iterator[tuple[str, Tensor]]:
    """All tensors in the order of the file, each with the name of its kind."""
    for block in convolution_blocks(net):
        parts = dict(block.conv.named_parameters()) if block.norm is None else dict(block.norm.state_dict())
        names = ("bias",) if block.norm is None else ("bias", "weight", "running_mean", "running_var")
        yield from ((name, parts[name]) for name in names)
        yield "kernel", block.conv.weight


def _portions(net: Darknet, numbers: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The part of the file's numbers that belongs to each tensor."""
    return np.split(numbers, np.cumsum([tensor.numel() for _, tensor in _tensors(net)])[:-1])


def _header(content: bytes, path: Path) -> tuple[WeightsHeader, int]:
    version_bytes = 4 * VERSION_FIELDS
    if len(content) >= version_bytes:
        major, minor, revision = np.frombuffer(content, "<i4", VERSION_FIELDS).tolist()
        seen_type = WeightsHeader(major=major, minor=minor).seen_type
        start = version_bytes + seen_type.itemsize
        if len(content) >= start:
            seen = int(np.frombuffer(content, seen_type, 1, version_bytes)[0])
            return WeightsHeader(major=major, minor=minor, revision=revision, seen=seen), start
    raise CheckpointError(
        f"{path} is not a darknet weights file", found=f"{len(content)} bytes, too few for a header", hint="copy it again"
    )


def _check_count(net: Darknet, numbers: NDArray[np.float32], bytes_over: int, path: Path) -> None:
    wanted = count_numbers(net)
    if len(numbers) == wanted and not bytes_over:
        return
    found = f"{len(numbers)} numbers" + (f" and {bytes_over} bytes" if bytes_over else "")
    raise CheckpointError(
        f"weights do not fit the cfg: {path}",
        cfg_wants=f"{wanted} numbers ({net.config.where(0)}, {net.classes} classes)",
        file_holds=f"{found}, {'too few' if len(numbers) < wanted else 'too many'}",
        hint="the file is truncated or belongs to another cfg or number of classes",
    )


def _check_values(net: Darknet, numbers: NDArray[np.float32], path: Path) -> None:
    """A file of another cfg may have the right length by chance: what no trained network holds gives it away."""
    variances = [part for (name, _), part in zip(_tensors(net), _portions(net, numbers), strict=True) if name == "running_var"]
    impossible = int((~np.isfinite(numbers)).sum()) + sum(int((part < 0).sum()) for part in variances)
    if impossible:
        raise CheckpointError(
            f"weights do not fit the cfg: {path}",
            found=f"{impossible} numbers that are not finite, or negative variances",
            hint="the file is damaged or belongs to another cfg",
        )
