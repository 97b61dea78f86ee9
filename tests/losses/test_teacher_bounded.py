import math

import pytest
import torch

from vidkd.losses.teacher_bounded import bounded_box_regression, confidence_bounded_mix, matched_heads, oracle_assigned, regression_kd
from vidkd.losses.yolo import yolo_loss
from vidkd.losses.yolo_heads import HeadSpec, boxes_of_cells, split_head
from vidkd.losses.yolo_targets import Truths

COARSE = HeadSpec(anchors=((40.0, 40.0), (80.0, 40.0)), stride=32, classes=3, scale_x_y=1.1)
FINE = HeadSpec(anchors=((10.0, 10.0), (10.0, 30.0)), stride=16, classes=3)
SPECS = (COARSE, FINE)
MATCHED = (confidence_bounded_mix, matched_heads)


def heads(seed, images=2):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 16, n, n, generator=random, dtype=torch.float64) for n in (2, 4)]


def truths(*boxes, **others):
    return Truths(boxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)), **others)


def one_cell(**entries):
    """A head of one cell, one anchor and one class: x, y, w, h, objectness, class."""
    names = ("x", "y", "w", "h", "objectness", "label")
    return [torch.tensor([entries.get(name, 0.0) for name in names], dtype=torch.float64).reshape(1, 6, 1, 1)]


SINGLE = (HeadSpec(anchors=((16.0, 8.0),), stride=32, classes=1),)


@pytest.mark.parametrize(("objectness", "value", "slope"), [(1.0, 9.0, 1.0), (-3.0, 0.16 * 9, 0.4)])
def test_the_mix_of_one_cell_where_the_oracle_is_sure_and_where_it_is_not(objectness, value, slope):
    student = one_cell(x=3.0, objectness=objectness)
    student[0].requires_grad_()
    loss = confidence_bounded_mix(student, one_cell(objectness=objectness), SINGLE)
    loss.backward()
    assert loss.item() == pytest.approx(value / 6)
    assert student[0].grad.flatten().tolist() == pytest.approx([slope * 2 * 3 / 6, 0, 0, 0, 0, 0])


def test_the_mix_against_a_loop_over_cells():
    student, teacher = heads(0), heads(1)
    expected = 0.0
    for raw_S, raw_T in zip(student, teacher, strict=True):
        vectors_S, vectors_T = (raw.reshape(2, 2, 8, -1).transpose(2, 3).reshape(-1, 8) for raw in (raw_S, raw_T))
        squares = 0.0
        for s, t in zip(vectors_S, vectors_T, strict=True):
            target = t if 1 / (1 + math.exp(-t[4])) >= 0.5 else 0.3 * t + 0.7 * s
            squares += float((s - target).square().sum())
        expected += squares / raw_S.numel()
    assert float(confidence_bounded_mix(student, teacher, SPECS, threshold=0.5, share=0.3)) == pytest.approx(expected)


def test_chens_bound_against_a_loop_over_the_cells_that_answer():
    student, teacher = heads(0), heads(1)
    images = [truths([5.0, 6, 40, 50], [33.0, 33, 44, 41]), truths([2.0, 3, 11, 30], weight=torch.tensor([0.5]))]
    answering = [(0, 0, 0, 0, 0), (1, 0, 0, 2, 2), (1, 1, 1, 1, 0)]
    rows = []
    for (head, image, anchor, row, column), box in zip(answering, [box for t in images for box in t.boxes.tolist()], strict=True):
        spec = SPECS[head]
        wanted = [(box[0] + box[2]) / 2 / spec.stride - column, (box[1] + box[3]) / 2 / spec.stride - row]
        wanted += [math.log((box[i + 2] - box[i]) / spec.anchors[anchor][i]) for i in range(2)]
        errors = []
        for raw in (student, teacher):
            v = raw[head][image, 8 * anchor : 8 * anchor + 4, row, column].tolist()
            offsets = [spec.scale_x_y / (1 + math.exp(-x)) - (spec.scale_x_y - 1) / 2 for x in v[:2]]
            errors.append(sum((a - b) ** 2 for a, b in zip([*offsets, *v[2:]], wanted, strict=True)))
        rows.append(errors[0] if errors[0] > errors[1] else 0.0)
    assert 0.0 in rows
    assert max(rows) > 0
    expected = (rows[0] + rows[1] + 0.5 * rows[2]) / 2.5
    assert float(bounded_box_regression(student, teacher, images, SPECS)) == pytest.approx(expected, rel=1e-6)


def test_chens_bound_without_a_truth_is_nought_with_a_gradient():
    student = [raw.requires_grad_() for raw in heads(0)]
    loss = bounded_box_regression(student, heads(1), [truths(), truths()], SPECS)
    loss.backward()
    assert loss.item() == 0
    assert all(raw.grad.abs().sum() == 0 for raw in student)


def test_matched_heads_pulls_the_probabilities_of_the_oracle():
    student, teacher = [raw.requires_grad_() for raw in heads(0)], heads(1)
    matched_heads(student, teacher, SPECS).total.backward()
    for raw, raw_T, spec in zip(student, teacher, SPECS, strict=True):
        cells_S, cells_T, grad = (split_head(x, spec) for x in (raw.detach(), raw_T, raw.grad))
        present = cells_T[..., 4:5].sigmoid()
        torch.testing.assert_close(grad[..., 4:5], (cells_S[..., 4:5].sigmoid() - present) / 2)
        torch.testing.assert_close(grad[..., 5:], present * (cells_S[..., 5:].sigmoid() - cells_T[..., 5:].sigmoid()) / 2)
        torch.testing.assert_close(grad[..., 2:4], present * (cells_S - cells_T)[..., 2:4] / 2)


@pytest.mark.parametrize("method", MATCHED)
def test_equal_heads_cost_nothing_and_the_teacher_gets_no_gradient(method):
    student, teacher = ([raw.requires_grad_() for raw in heads(seed)] for seed in (0, 1))
    same = method(teacher, [raw.detach().clone() for raw in teacher], SPECS)
    assert float((same if isinstance(same, torch.Tensor) else same.total).detach()) == pytest.approx(0, abs=1e-9)
    loss = method(student, teacher, SPECS)
    (loss if isinstance(loss, torch.Tensor) else loss.total).backward()
    assert all(raw.grad is None for raw in teacher)
    assert all(raw.grad.abs().sum() > 0 for raw in student)


def test_the_boxes_of_an_oracle_weigh_by_their_scores():
    student, scores = heads(0, images=1), torch.tensor([0.9, 0.3])
    boxes = ([5.0, 6, 40, 50], [33.0, 33, 44, 41])
    weighed = oracle_assigned(student, [truths(*boxes, confidence=scores)], SPECS)
    assert_same(weighed, yolo_loss(student, [truths(*boxes, weight=scores)], SPECS))
    taught = oracle_assigned(student, [truths(*boxes, confidence=scores)], SPECS, scores_as="objectness")
    assert_same(taught, yolo_loss(student, [truths(*boxes, confidence=scores)], SPECS))
    assert_same(oracle_assigned(student, [truths(*boxes)], SPECS), yolo_loss(student, [truths(*boxes)], SPECS))
    surer = oracle_assigned(student, [truths(*boxes, confidence=scores)], SPECS, scores_as="objectness", score_power=0.5)
    assert_same(surer, yolo_loss(student, [truths(*boxes, confidence=scores.sqrt())], SPECS))
    assert_same(oracle_assigned(student, [truths(*boxes, confidence=scores)], SPECS, score_power=0.5), weighed)
    twice = oracle_assigned(student, [truths(*boxes, confidence=scores, weight=torch.tensor([2.0, 2.0]))], SPECS)
    assert_same(twice, yolo_loss(student, [truths(*boxes, weight=2 * scores)], SPECS))


def assert_same(terms, expected):
    assert [float(term) for term in terms] == pytest.approx([float(term) for term in expected])


@pytest.mark.parametrize("scores_as", ["weight", "objectness"])
def test_uncertain_boxes_ask_nothing_and_shield_what_lies_near(scores_as):
    student = [raw.requires_grad_() for raw in heads(0, images=1)]
    box = boxes_of_cells(split_head(student[1], FINE), FINE)[0, 1, 3, 2].tolist()
    found = truths(box, confidence=torch.tensor([0.45]))
    terms = oracle_assigned(student, [found], SPECS, certain=0.5, scores_as=scores_as)
    assert terms.box.item() == terms.classes.item() == 0
    terms.total.backward()
    assert split_head(student[1].grad, FINE)[0, 1, 3, 2].abs().sum() == 0
    assert split_head(student[1].grad, FINE)[0, 1, 0, 0, 4] > 0
    again = oracle_assigned(student, [found], SPECS, certain=0.45, scores_as=scores_as)
    assert again.classes.item() > 0


@pytest.mark.parametrize("method", [*MATCHED, lambda s, t, specs: bounded_box_regression(s, t, [truths(), truths()], specs)])
def test_heads_that_share_no_cells(method):
    with pytest.raises(ValueError, match="see oracle_assigned"):
        method(heads(0), [raw[..., :1] for raw in heads(1)], SPECS)


def test_bounded_regression_pulls_only_where_the_student_is_not_better_by_the_margin():
    target = torch.zeros(3, 2)
    student = torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]]).requires_grad_()
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [2.1, 0.0]]).requires_grad_()
    # squared errors: student 25, 1, 4; teacher 1, 4, 4.41
    assert float(regression_kd(student, teacher, target)) == pytest.approx(25 / 3)
    assert float(regression_kd(student, teacher, target, margin=0.5)) == pytest.approx(29 / 3)
    assert float(regression_kd(student, teacher, target, weight=torch.tensor([1.0, 1, 0]))) == pytest.approx(25 / 2)
    regression_kd(student, teacher, target, margin=0.5).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[2.0, 8 / 3], [0, 0], [4 / 3, 0]]))
    assert teacher.grad is None
    assert float(regression_kd(target + 1, target + 1, target)) == 0  # as good as the teacher, no margin
