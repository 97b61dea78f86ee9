"""The page: escaped, loads nothing, and as a browser shows it, by day, by night and on a phone."""

import base64
import dataclasses
import html
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import dump, needs_chromium
from markupsafe import escape
from report_samples import NASTY, make_observed_run, make_observed_strip, make_run, make_strip, make_study, observed_study

from vidkd.report.page import render_html, render_report
from vidkd.report.parts import Estimate, Figure, Report, Strip, Table
from vidkd.report.run import run_report
from vidkd.report.strips import LANE_GAP_PX, LANE_PX
from vidkd.report.study import study_report

FRACTIONS = tuple(number / 10 for number in range(1, 11))
METHODS = ("none", "logits", "position", "pooled", "gram", "attentive", "window", "transport", "attentive + logits", "transport + logits")
STRIP_PX = 8 * 80 + 7 * 3
SIZES = ((STRIP_PX, 80), (STRIP_PX, 2 * LANE_PX + 3 * LANE_GAP_PX))
"""Width and height of the pictures of a strip and of its time line."""
VOID = {"meta", "link", "img", "br", "hr", "path", "use"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    summary, _ = make_study(seeds=3, folds=2)
    run = run_report(make_run(folder / "runs" / "demo"), strips=[make_strip(), make_strip(predicted=NASTY)])
    study = dataclasses.replace(study_report(summary, command=f"vidkd study --name {'long-' * 60}"), strips=(make_strip(),))
    early = run_report(make_observed_run(folder / "runs" / "early", FRACTIONS), strips=[make_observed_strip()])
    shares = dataclasses.replace(study_report(observed_study(METHODS)), strips=(make_strip(),))
    reports = {"run": run, "study": study, "early": early, "shares": shares}
    return {name: render_report(folder / f"{name}.html", report) for name, report in reports.items()}


class Elements(HTMLParser):
    """Tags in order, with their attributes, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def everything_nasty() -> Report:
    return Report(
        title=NASTY,
        subtitle=NASTY,
        command=NASTY,
        config_text=NASTY,
        tables=(Table(title=NASTY, columns=(NASTY, "n"), rows=((NASTY, 1),), caption=NASTY),),
        figures=(Figure(title=NASTY, svg="<svg></svg>", caption=NASTY),),
        strips=(Strip(title=NASTY, rows=((NASTY, "data:image/png;base64,"),), caption=NASTY),),
        notes={NASTY: NASTY},
        environment={NASTY: NASTY},
    )


def test_every_text_is_escaped() -> None:
    page = render_html(everything_nasty())
    tags = {tag for tag, _ in Elements(page).found}
    assert tags.isdisjoint({"script", "b"})
    assert page.count(str(escape(NASTY))) == 20
    assert "script-src" not in page


@pytest.mark.parametrize("name", ["run", "study", "early", "shares"])
def test_tags_close_and_ids_are_unique(pages: dict[str, Path], name: str) -> None:
    elements = Elements(pages[name].read_text(encoding="utf-8"))
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) > 5
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["run", "study"])
def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Path], name: str) -> None:
    page = pages[name].read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    ids = set(re.findall(r'\bid="([^"]*)"', page))
    for tag, attributes in Elements(page).found:
        for attribute in ("src", "href", "srcset", "action"):
            target = attributes.get(attribute)
            assert target is None or target.startswith("data:") or target[1:] in ids, (tag, target)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= ids


@pytest.mark.parametrize("name", ["run", "study", "early", "shares"])
def test_images_decode(pages: dict[str, Path], name: str) -> None:
    images = re.findall(r'<img[^>]*src="data:image/[a-z]+;base64,([^"]+)"', pages[name].read_text(encoding="utf-8"))
    assert images
    for data in images:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape[1::-1] in SIZES


def test_numbers_and_intervals_are_written_as_people_read_them() -> None:
    rows = (
        ("a", Estimate(value=0.7134, ci95=(0.682, 0.741)), 1234567, 0.012345, Estimate(value=-0.031, signed=True)),
        ("b", None, 12, 8.25, Estimate(value=0.05, ci95=(-0.01, 0.11), signed=True)),
        ("c", Estimate(value=8.25, ci95=(8, 9), percent=False), 0, 1234.5, Estimate(value=0.0, signed=True)),
    )
    page = render_html(Report(title="t", tables=(Table(title="x", columns=tuple("abcde"), rows=rows),)))
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)]
    assert cells == [
        *("a", "71.3 [68.2, 74.1]", "1\u202f234\u202f567", "0.0123", "\u22123.1"),
        *("b", "\u2013", "12", "8.25", "+5.0 [\u22121.0, +11.0]"),
        *("c", "8.25 [8, 9]", "0", "1\u202f234", "0.0"),
    ]


def browse(folder: Path, url: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return dump(folder, url, "--enable-logging=stderr", "--hide-scrollbars", "--virtual-time-budget=4000", *flags)


def console(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "CONSOLE" in line]


MEASURE = """<script>addEventListener("load", () => {
  const images = [...document.images].map(image => [image.naturalWidth, image.naturalHeight]);
  const style = getComputedStyle(document.body);
  const text = document.querySelector("svg text");
  parent.postMessage({width: innerWidth, scroll: document.documentElement.scrollWidth, images, paper: style.backgroundColor,
    ink: style.color, figure: text ? getComputedStyle(text).fill : null}, "*");
});</script>"""
HARNESS = """<!doctype html><body><script>addEventListener("message", event => {
  document.body.dataset.found = JSON.stringify(event.data);
});</script><iframe src="page.html" style="border:0;width:%dpx;height:800px"></iframe>"""


def measure(folder: Path, page: str, *, width: int = 390, dark: bool = False) -> dict:
    """What a browser makes of a copy of the page that is `width` wide and may run the measuring script."""
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (folder / "page.html").write_text(without_policy.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    (folder / "harness.html").write_text(HARNESS % width)
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    found = browse(folder, folder / "harness.html", scheme)
    match = re.search(r'data-found="([^"]*)"', found.stdout)
    assert match, found.stderr[-2000:]
    return json.loads(html.unescape(match[1]))


@needs_chromium
@pytest.mark.parametrize("name", ["run", "study"])
def test_no_console_errors(pages: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = browse(tmp_path, pages[name])
    assert "How it was made" in found.stdout  # the end of the page
    assert console(found.stderr) == []


@needs_chromium
def test_console_errors_would_be_seen(tmp_path: Path) -> None:
    page = render_html(Report(title="t")).replace("</body>", '<img src="https://localhost:9/x.png"></body>')
    (tmp_path / "bad.html").write_text(page)
    assert any("Content Security Policy" in line for line in console(browse(tmp_path, tmp_path / "bad.html").stderr))


@needs_chromium
@pytest.mark.parametrize("name", ["run", "study", "early", "shares"])
def test_a_phone_needs_no_sideways_scrolling_and_images_decode(pages: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = measure(tmp_path, pages[name].read_text(encoding="utf-8"))
    assert found["width"] == 390
    assert found["scroll"] == 390
    assert found["images"]
    assert all(tuple(size) in SIZES for size in found["images"])


@needs_chromium
def test_the_figures_follow_the_colour_scheme(pages: dict[str, Path], tmp_path: Path) -> None:
    page = pages["study"].read_text(encoding="utf-8")
    light, dark = (measure(tmp_path, page, width=1000, dark=night) for night in (False, True))
    assert lightness(light["paper"]) > 230 > 100 > lightness(light["ink"])
    assert lightness(dark["paper"]) < 40 < 200 < lightness(dark["ink"])
    assert abs(lightness(light["figure"]) - lightness(light["paper"])) > 100
    assert abs(lightness(dark["figure"]) - lightness(dark["paper"])) > 100


def lightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3
