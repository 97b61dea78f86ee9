"""A detector's supervised task: the loss that it hands on, and that it learns."""

import pytest
import torch
from darknet_cfgs import stacked_cfg
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.losses.teacher_bounded import bounded_box_regression, oracle_assigned
from vidkd.losses.yolo import YoloLossOptions, yolo_loss
from vidkd.losses.yolo_targets import Truths
from vidkd.models.darknet import Darknet, parse_cfg
from vidkd.tasks.yolo import YoloConfig, YoloDetection

CFG = stacked_cfg([(8, 4)], classes=2, anchors=[(4, 4), (8, 8), (16, 16)], mask=(1, 2), side=32)


def net() -> Darknet:
    torch.manual_seed(0)
    return Darknet(parse_cfg(CFG))


def batch(*boxes: list[list[float]], ignore: bool = False) -> dict[str, object]:
    """Images of noise with these boxes, of classes 0, 1, 0, ..."""
    images = torch.randint(0, 255, (len(boxes), 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = [torch.tensor(each).reshape(-1, 4) for each in boxes]
    labels = [torch.arange(len(each)) % 2 for each in rows]
    return {
        "image": images,
        "boxes": rows,
        "labels": [torch.full_like(each, -1) if ignore else each for each in labels],
        "ignore": [torch.full((len(each),), ignore) for each in rows],
        "index": torch.arange(len(boxes)),
    }


def test_the_losses_are_those_of_the_yolo_loss_on_pixels_from_0_to_1() -> None:
    task = YoloDetection(YoloConfig(iou_loss="ciou", iou_normalizer=3.0, ignore_thresh=0.7), net()).eval()
    given = batch([[2.0, 3.0, 11.0, 12.0], [16.0, 16.0, 30.0, 29.0]], [])
    losses = task(given)
    images = given["image"]
    assert isinstance(images, Tensor)
    truths = [Truths(boxes=torch.tensor([[2.0, 3, 11, 12], [16, 16, 30, 29]]), labels=torch.tensor([0, 1]))]
    truths.append(Truths(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)))
    options = YoloLossOptions(iou_loss="ciou", iou_normalizer=3.0, ignore_thresh=0.7)
    expected = yolo_loss(task.student(images / 255), truths, task.student.heads, options=options)
    assert losses["loss"].item() == pytest.approx(expected.total.item(), rel=1e-6)
    assert [losses[name].item() for name in ("box", "objectness", "classes")] == pytest.approx([t.item() for t in expected[:3]], rel=1e-6)
    assert losses["loss"].item() == pytest.approx(sum(losses[name].item() for name in ("box", "objectness", "classes")), rel=1e-6)


def test_a_box_that_fits_an_unused_anchor_best_teaches_no_cell() -> None:
    task = YoloDetection(None, net()).eval()
    small, large = (task(batch([[4.0, 4.0, 4.0 + side, 4.0 + side]])) for side in (4, 8))
    assert [head.unused_anchors for head in task.student.heads] == [((4.0, 4.0),)]
    assert (small["box"].item(), small["classes"].item()) == (0.0, 0.0)
    assert min(large["box"].item(), large["classes"].item()) > 0


@pytest.mark.parametrize("loss", ["oracle_assigned", "bounded_box_regression"])
def test_learning_along_a_stream_assigns_as_training_does(loss: str) -> None:
    student = net().eval()
    heads = [head.detach() for head in student(torch.rand(1, 3, 32, 32))]
    small, large = (
        Truths(boxes=torch.tensor([[4.0, 4.0, 4.0 + side, 4.0 + side]]), labels=torch.tensor([0]), confidence=torch.tensor([0.9]))
        for side in (4, 8)
    )

    def box_term(truths: Truths) -> float:
        if loss == "oracle_assigned":
            return oracle_assigned(heads, [truths], student.heads).box.item()
        return bounded_box_regression(heads, heads, [truths], student.heads, margin=1.0).item()

    assert box_term(small) == 0, "the box fits the unused anchor best, so no cell answers for it"
    assert box_term(large) > 0


@pytest.mark.parametrize("wrong", [{"ignore_thresh": 1.5}, {"cls_normalizer": -1.0}, {"box_iou_bound": 2.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "normal" not in next(iter(wrong)) else "normalisers"):
        YoloConfig(**wrong)  # type: ignore[arg-type]
