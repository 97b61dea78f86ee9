"""Small darknet networks for tests, as the texts of their cfgs."""

from collections.abc import Sequence

Anchors = Sequence[tuple[int, int]]


def stacked_cfg(
    blocks: Sequence[tuple[int, int]],
    *,
    classes: int,
    anchors: Anchors = ((8, 8), (16, 16)),
    mask: Sequence[int] | None = None,
    side: int = 64,
) -> str:
    """Convolutions of 3 x 3 one behind the other, each given as filters and stride, and one yolo layer.

    mask: which anchors the layer has; all without it. side: of the frames, in pixels.
    """
    mask = range(len(anchors)) if mask is None else mask
    parts = [f"[net]\nwidth={side}\nheight={side}\nchannels=3\n"]
    for filters, stride in blocks:
        parts.append(f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize=3\nstride={stride}\npad=1\nactivation=leaky\n")
    parts.append(f"[convolutional]\nfilters={len(mask) * (5 + classes)}\nsize=1\nactivation=linear\n")
    pairs = ", ".join(f"{width},{height}" for width, height in anchors)
    parts.append(f"[yolo]\nmask={','.join(map(str, mask))}\nanchors={pairs}\nclasses={classes}\nnum={len(anchors)}\n")
    return "".join(parts)
