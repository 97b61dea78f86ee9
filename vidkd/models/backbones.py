"""Every backbone by name. A new one is a file with a subclass of `Backbone`, and its place in the list here."""

from vidkd.base.errors import unknown_name
from vidkd.models.backbone import Backbone, Layout
from vidkd.models.config import View
from vidkd.models.mobilenet_shift import MobileNetShift
from vidkd.models.pytorchvideo_nets import PytorchVideoNet
from vidkd.models.timm_nets import PREFIX as TIMM
from vidkd.models.timm_nets import TimmNet, timm_layout
from vidkd.models.tiny3d import Tiny3D
from vidkd.models.torchvision_nets import S3D, MViT, Swin3D, VideoResNet

BACKBONES: dict[str, type[Backbone]] = {
    name: kind for kind in (Tiny3D, MobileNetShift, VideoResNet, S3D, MViT, Swin3D, PytorchVideoNet) for name in kind.layouts
}


def layout_of(name: str) -> Layout:
    """What a backbone declares before it is built. Raises ConfigError for an unknown name."""
    if name.startswith(TIMM):
        return timm_layout(name)
    if name not in BACKBONES:
        raise unknown_name("backbone", name, [*BACKBONES, f"{TIMM}NAME"])
    return BACKBONES[name].layouts[name]


def build_backbone(name: str, *, view: View = "rgb", flow_stack: int = 1) -> Backbone:
    """A backbone of `BACKBONES`, or of timm, for `view`, with random weights. Raises ConfigError for an unknown name.

    flow_stack: flow fields that the view flow has for each frame.
    """
    if name.startswith(TIMM):
        backbone: Backbone = TimmNet(name, view)
    else:
        layout_of(name)
        backbone = BACKBONES[name](name, view)  # type: ignore[call-arg, arg-type]  # the constructor of every subclass
    if view == "flow" and flow_stack > 1:
        backbone.read_flow(flow_stack)
    return backbone
