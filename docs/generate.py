"""Writes the tables of results into README.md and docs/, and a page per study: every number in them comes from results/.

    python docs/generate.py            # rewrites tables and pages
    python docs/generate.py --check    # exit code 1, naming what is out of date

A table is between `<!-- table ... -->` and `<!-- end -->`. `study`, `metric` and `methods` say what is in it, `reference` adds the paired
difference to one method. `<!-- verdicts -->` is the table of docs/verdicts.yaml.
"""

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas
import yaml

from vidkd.report.page import table_markdown
from vidkd.report.parts import Estimate, Table, format_estimate
from vidkd.report.study import long_table, pivot, study_notes, study_tables

ROOT = Path(__file__).parents[1]
RESULTS, PAGES_OF_RESULTS = ROOT / "results", ROOT / "docs" / "results"
WRITTEN = [path for path in sorted((ROOT / "docs").rglob("*.md")) if PAGES_OF_RESULTS not in path.parents]
PAGES = [ROOT / "README.md", *(path for path in WRITTEN if path.name != "performance.md")]
RATIOS = ("latency_ratio@b1t1", "end_to_end_ratio@b1t1")
SHIPPED = """
## A student from pretrained weights, shipped

```bash
vidkd benchmark --config configs/benchmark/pretrained.yaml --data.root DIR
```

One seed, one split: a linear probe on a frozen ImageNet network, 16 frames at 160 pixels, on one thread. Targets of its integers:
within a point of float, three times as fast as float, and from file to answer as fast as decoding allows. Top-1 meets the first here
(its interval is over test groups). Against float in PyTorch both runtimes meet the second; against float in the same runtime (the two
rows that say so) both **miss** it. In OpenVINO decoding takes about half of the way from the file; its interval does not tell which
half is longer. On differences integers lose more than a point here. The peers have drawn weights, published inputs and sizes; cold
starts were not measured. Other programs may have run on the machine.
"""
BLOCK = re.compile(r"(<!-- (table|verdicts)([^>]*) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def summary(study: str) -> Mapping[str, Any]:
    """The summary of a study."""
    content: Mapping[str, Any] = json.loads((RESULTS / study / "summary.json").read_text(encoding="utf-8"))
    return content


def with_interval(value: float, interval: list[float] | None, *, sign: bool = False) -> str:
    """A share in points of a hundred, `77.0 [67.1, 85.2]`; a value without an interval says so."""
    bounds = None if interval is None else (interval[0], interval[1])
    number, ends = format_estimate(Estimate(value=value, ci95=bounds, signed=sign))
    return f"{number} {ends or '[no interval]'}"


def paired(study: str, method: str, reference: str, metric: str) -> tuple[float, list[float] | None]:
    """The paired difference of two methods of a study and its interval, whichever way round the summary has it."""
    for row in summary(study)["paired"]:
        if row["metric"] != metric or {row["method"], row["reference"]} != {method, reference}:
            continue
        if row["method"] == method:
            return row["difference"], row["ci95"]
        return -row["difference"], row["ci95"] and [-row["ci95"][1], -row["ci95"][0]]
    raise SystemExit(f"results/{study}/summary.json has no difference of {method} and {reference} in {metric}")


def table(options: Mapping[str, str]) -> str:
    """Rows of methods: the metric with its interval and, with `reference`, the paired difference."""
    study, metric, reference = options["study"], options["metric"], options.get("reference")
    content = summary(study)
    methods, labels = content["methods"], content["data"].get("labels", {})
    names = options["methods"].split(",") if "methods" in options else list(methods)
    head = ["method", f"{metric} [95 %]", *([f"difference to {labels.get(reference, reference)}"] if reference else []), "runs"]
    rows = []
    for name in names:
        found = methods[name]["metrics"][metric]
        cells = [labels.get(name, name), with_interval(found["mean"], found["ci95"])]
        if reference:
            cells.append("" if name == reference else with_interval(*paired(study, name, reference, metric), sign=True))
        rows.append([*cells, str(found["n"])])
    return as_markdown(head, rows)


def verdict(interval: list[float] | None) -> str:
    """What an interval of a difference allows to say."""
    if interval is None:
        return "not judged: one run"
    low, high = interval
    return "**works**" if low > 0 else "**harms**" if high < 0 else "no significant difference"


def verdicts() -> str:
    """Claims with their evidence and verdict."""
    rows = []
    for claim in yaml.safe_load((ROOT / "docs" / "verdicts.yaml").read_text(encoding="utf-8")):
        study, metric = claim["study"], claim["metric"]
        difference, interval = paired(study, claim["method"], claim["reference"], metric)
        evidence = f"{with_interval(difference, interval, sign=True)} ([{study}](results/{study}.md), {metric})"
        rows.append([claim["claim"], evidence, verdict(interval)])
    return as_markdown(["claim", "evidence: difference in points [95 %]", "verdict"], rows)


def as_markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return table_markdown(Table(title="", columns=tuple(head), rows=tuple(map(tuple, rows))))


def study_page(study: str, config: Path | None) -> str:
    """The page of a study: what it asks, its command, and its tables."""
    content = summary(study)
    asked = yaml.safe_load(config.read_text(encoding="utf-8")) if config else {}
    lines = [f"# {asked.get('title', study)}\n", *([asked["text"].strip() + "\n"] if asked.get("text") else [])]
    lines += ["; ".join(f"{name}: {value}" for name, value in study_notes(content).items()) + ".\n"]
    lines += [f"```bash\n{config.read_text(encoding='utf-8').splitlines()[0].lstrip('# ').partition('   ')[0]}\n```\n"] if config else []
    for each in study_tables(content):
        lines += [f"## {each.title}\n", table_markdown(each), *([each.caption + "\n"] if each.caption else [])]
    return "\n".join(lines)


def benchmark_page() -> str:
    """Benchmarks and compression recipes: a table for each summary of single models."""
    lines = ["# Benchmarks and compression recipes\n"]
    lines += ["Single models on one machine. Accuracy in points, times as ratios within a round to the model of the row; 95 % intervals.\n"]
    found = json.loads((RESULTS / "benchmarks.json").read_text(encoding="utf-8"))
    for name, content in {**found["benchmark"], **{f"compress: {name}": each for name, each in found["compress"].items()}}.items():
        frame = long_table(content)
        metric = next((one for one in ("top1", "ap50", "recall50") if one in set(frame.metric)), "")
        size = next(one for one in ("file_bytes", "bytes") if one in set(frame.metric))
        parts = [frame[(frame.metric == one) & (frame.reference == "")] for one in (metric, *RATIOS, size)]
        parts.insert(1, frame[(frame.metric == metric) & (frame.reference != "")].assign(base="difference"))
        shown = pandas.concat(parts)
        wide = pivot(shown.assign(method=shown.method.str.removesuffix(" @ b1t1")), "base", title="")
        lines += [f"## {content['data'].get('benchmark', name)}\n", table_markdown(wide)]
    return "\n".join(lines)


def performance() -> str:
    """The page of the performance suite, and the benchmark of a student that is shipped."""
    from vidkd.report.benchmark import benchmark_report, performance_page

    report = benchmark_report(json.loads((RESULTS / "benchmarks.json").read_text(encoding="utf-8"))["benchmark"]["pretrained"])
    tables = {each.title: each for each in report.tables}
    lines = [SHIPPED]
    for title in ("Speed and accuracy", "From file to answer"):
        lines += [f"### {title}\n", table_markdown(tables[title]), f"{tables[title].caption}\n"]
    sizes = tables["Size, start and memory"]
    lines += ["### Size\n", table_markdown(Table(title="", columns=sizes.columns[:5], rows=tuple(row[:5] for row in sizes.rows)))]
    return performance_page(json.loads((RESULTS / "performance.json").read_text(encoding="utf-8"))) + "\n".join(lines)


def result_pages() -> dict[Path, str]:
    """All pages below docs/results."""
    configs = {path.stem: path for path in (ROOT / "configs" / "studies").rglob("*.yaml")}
    studies = sorted(path.parent.name for path in RESULTS.glob("*/summary.json"))
    pages = {PAGES_OF_RESULTS / f"{study}.md": study_page(study, configs.get(study)) for study in studies}
    titles = {study: pages[PAGES_OF_RESULTS / f"{study}.md"].partition("\n")[0].removeprefix("# ") for study in studies}
    links = "".join(f"- [{titles[study]}]({study}.md)\n" for study in studies)
    links += "- [Benchmarks and compression recipes](benchmarks.md)\n"
    pages[PAGES_OF_RESULTS / "benchmarks.md"] = benchmark_page()
    pages[PAGES_OF_RESULTS / "index.md"] = f"# Results\n\nGenerated from `results/` by `python docs/generate.py`.\n\n{links}"
    return pages


def generated(text: str) -> str:
    """A page with its tables written again."""

    def block(match: re.Match[str]) -> str:
        options = dict(word.split("=", 1) for word in match[3].split())
        return f"{match[1]}\n{verdicts() if match[2] == 'verdicts' else table(options)}\n{match[4]}"

    return BLOCK.sub(block, text)


def main() -> int:
    """Rewrite or check all pages."""
    wanted = result_pages() | {ROOT / "docs" / "performance.md": performance()}
    wanted |= {page: generated(page.read_text(encoding="utf-8")) for page in PAGES}
    stale = []
    for page, new in wanted.items():
        if not page.exists() or page.read_text(encoding="utf-8") != new:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(new, encoding="utf-8")
    sys.stdout.write("".join(f"{'out of date' if '--check' in sys.argv else 'written'}: {name}\n" for name in stale))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
