"""Figures show the numbers they were given."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_samples import NASTY

from vidkd.report import figures
from vidkd.report.figures import (
    accuracy_by_condition,
    confusion_figure,
    paired_bars,
    reliability_diagram,
    seed_dots,
    training_curves,
)
from vidkd.report.parts import Estimate, Figure

SVG = "{http://www.w3.org/2000/svg}"


def texts(figure: Figure) -> list[str]:
    """Texts of the drawing; parsing it also shows that it is well formed."""
    return ["".join(node.itertext()) for node in ET.fromstring(figure.svg).iter("text")]


def test_an_svg_brings_no_address_and_no_size_of_its_own() -> None:
    figure = confusion_figure([[1, 0], [0, 1]], ["a", "b"])
    assert "http" not in figure.svg
    assert "metadata" not in figure.svg
    opening = figure.svg.split(">")[0]
    assert "viewBox" in opening
    assert not re.search(r"\b(width|height)=", opening)
    assert "#0a0b0" not in figure.svg
    assert "var(--ink" in figure.svg


def test_confusion_matrix_has_its_counts_its_names_and_the_worst_pair() -> None:
    figure = confusion_figure([[31, 17, 0], [0, 42, 0], [5, 0, 23]], ["walk", NASTY, "run"])
    found = texts(figure)
    assert {"31", "17", "42", "5", "23"} <= set(found)
    assert "0" not in found
    assert sum(text.startswith("<b>&") for text in found) == 2
    assert figure.caption.endswith(f"Most frequent: walk taken for {NASTY} (17), run taken for walk (5).")


def test_confusion_matrix_of_many_classes_is_a_picture() -> None:
    figure = confusion_figure(np.eye(101, dtype=int), [f"class {number}" for number in range(101)])
    assert sorted(texts(figure)) == ["predicted", "true"]
    assert len(figure.svg) < 100_000
    assert "Most frequent" not in figure.caption


def test_seed_dots_have_a_dot_a_seed_and_the_mean() -> None:
    values = {"student": {"0/1": 0.5, "0/2": 0.6, "1/1": 0.7}, "kd": {"0/1": 0.81, "1/1": 0.83, "2/1": 0.85}}
    estimates = {"student": Estimate(value=0.6, ci95=(0.52, 0.68)), "kd": Estimate(value=0.83)}
    figure = seed_dots(values, estimates, title="top1")
    assert {"student", "kd", "60.0", "83.0"} <= set(texts(figure))
    dots = [figure.svg.count(f'<use href="#{marker}"') for marker in dict.fromkeys(re.findall(r'<use href="#([^"]+)"', figure.svg))]
    assert {2, 3} <= set(dots)
    assert figures.seed_means(values["student"]) == pytest.approx([0.55, 0.7])


def test_paired_bars_are_signed_and_pale_without_certainty() -> None:
    def pair(method: str, difference: float, ci95: tuple[float, float] | None) -> tuple[str, str, Estimate]:
        return method, "student", Estimate(value=difference, ci95=ci95, signed=True)

    figure = paired_bars([pair("kd", 0.042, (0.01, 0.08)), pair("at", -0.013, (-0.05, 0.02)), pair("mars", 0.02, None)], words="top1")
    found = texts(figure)
    assert {"kd", "at", "mars", "+4.2", "\u22121.3", "+2.0", "percentage points over student"} <= set(found)
    opacities = re.findall(r"fill: #3d7fb5; opacity: ([\d.]+)", figure.svg)
    assert opacities == ["0.85", "0.3", "0.3"]


def test_paired_bars_against_several_name_both() -> None:
    pairs = [("kd", base, Estimate(value=0.1, signed=True)) for base in ("student", "teacher")]
    assert {"kd \u2212 student", "kd \u2212 teacher"} <= set(texts(paired_bars(pairs, words="top1")))


def test_accuracy_by_condition_marks_the_given_values() -> None:
    series = {
        "student": {10.0: Estimate(value=0.2, ci95=(0.1, 0.3)), 100.0: Estimate(value=0.6)},
        "kd": {10.0: Estimate(value=0.4, ci95=(0.3, 0.5)), 100.0: Estimate(value=0.7, ci95=(0.6, 0.8))},
    }
    found = texts(accuracy_by_condition(series, title="t", condition="labels (%)"))
    assert {"10", "100", "labels (%)", "student", "kd"} <= set(found)


def test_training_curves_are_two_figures_with_the_last_values() -> None:
    rows = [{"step": step, "epoch": step / 10, "split": "train", "loss": 2 / step, "attention": 0.5, "lr": 0.1} for step in range(1, 21)]
    rows += [{"step": step, "split": "val", "top1": step / 40, "nll": 1.0} for step in (10, 20)]
    losses, validation = training_curves(rows)
    assert losses.caption == "Last values: loss 0.1, attention 0.5."
    assert validation.caption == "Last values: top1 50.0."
    assert {"loss", "attention", "step"} <= set(texts(losses))
    assert "lr" not in texts(losses)


def test_a_single_term_is_not_drawn_twice_and_a_single_validation_is_no_curve() -> None:
    rows = [{"step": step, "split": "train", "loss": 2 / step, "label": 2 / step, "flow": 2 / step + (step == 3)} for step in range(1, 5)]
    rows += [{"step": 4, "split": split, "top1": 0.5} for split in ("val", "test")]
    (losses,) = training_curves(rows)
    assert losses.caption == "Last values: loss 0.5, flow 0.5."
    rows += [{"step": 5, "split": "test", "top1": 0.75}]
    assert training_curves(rows)[1].caption == "Last values: top1, val 50.0, top1, test 75.0."


def test_long_runs_are_drawn_as_means_of_spans() -> None:
    rows = [{"step": step, "split": "train", "loss": float(step % 2)} for step in range(6000)]
    steps, values = figures._series(rows, "loss")
    assert len(steps) == figures.MOST_POINTS
    assert values == pytest.approx(0.5)
    assert steps[0] == pytest.approx(9.5)
    assert len(training_curves(rows)[0].svg) < 60_000


def test_reliability_has_the_calibration_error() -> None:
    """Ten clips at confidence 0.9 of which 7 are right, ten at 0.3 of which 5 are: ECE = (0.2 + 0.2) / 2."""
    confidence = [0.9] * 10 + [0.3] * 10
    correct = [1] * 7 + [0] * 3 + [1] * 5 + [0] * 5
    figure = reliability_diagram(confidence, correct, bins=10)
    assert figure.caption.startswith("ECE 20.0 % over 10 bins, 20 clips.")
    assert texts(figure).count("10") == 2
    assert "In the mean 60.0 % sure and 60.0 % right." in figure.caption
