"""Writes the tables of results into README.md and docs/, and a page per study: every number in them comes from results/.

    python docs/generate.py            # rewrites tables and pages
    python docs/generate.py --check    # exit code 1, naming what is out of date

A table lies between `<!-- table ... -->` and `<!-- end -->`. `study`, `metric` and `methods` say what is in it, `reference` adds the paired
difference to one method. `<!-- verdicts -->` is the table of docs/verdicts.yaml.
"""

import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS, PAGES_OF_RESULTS = ROOT / "results", ROOT / "docs" / "results"
WRITTEN = [path for path in sorted((ROOT / "docs").rglob("*.md")) if PAGES_OF_RESULTS not in path.parents]
PAGES = [ROOT / "README.md", *(path for path in WRITTEN if path.name != "performance.md")]
ACCURACIES = ("top1", "f1", "ap50", "recall", "pointing")
BLOCK = re.compile(r"(<!-- (table|verdicts)([^>]*) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def summary(study: str) -> Mapping[str, Any]:
    """The summary of a study."""
    content: Mapping[str, Any] = json.loads((RESULTS / study / "summary.json").read_text(encoding="utf-8"))
    return content


def points(value: float, *, sign: bool = False) -> str:
    """A share in points of a hundred with one decimal; a rounded zero has no minus."""
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return text.replace("-0.0", "0.0" if not sign else "+0.0")


def with_interval(value: float, interval: list[float] | None, *, sign: bool = False) -> str:
    """`77.0 [67.1, 85.2]`; a value without an interval says so."""
    ends = "no interval" if interval is None else ", ".join(points(end, sign=sign) for end in interval)
    return f"{points(value, sign=sign)} [{ends}]"


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
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def study_page(study: str, config: Path | None) -> str:
    """The page of a study: what it asks, its command, and tables of metrics and paired differences by condition."""
    content = summary(study)
    data = content["data"]
    asked = yaml.safe_load(config.read_text(encoding="utf-8")) if config else {}
    facts = {key: data.get(key) for key in ("name", "subset", "folds", "seeds", "reference", "claim") if data.get(key)}
    lines = [f"# {asked.get('title', study)}\n", *([asked["text"].strip() + "\n"] if asked.get("text") else [])]
    lines += ["; ".join(f"{key}: {_words(value)}" for key, value in facts.items()) + ".\n"]
    lines += [f"```bash\n{config.read_text(encoding='utf-8').splitlines()[0].lstrip('# ').partition('   ')[0]}\n```\n"] if config else []
    lines += ["Means over runs in points, with 95 % intervals. Differences are paired.\n"]
    for condition, metrics in _by_condition(content).items():
        lines += [f"## {condition}\n"] if condition else []
        lines += [_metrics_table(content, metrics), *_difference_tables(content, metrics)]
    return "\n".join(lines)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _by_condition(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """Accuracies by the condition behind their @; those that have an interval, or all where none has."""
    rows = {name: row for method in content["methods"].values() for name, row in method["metrics"].items() if name.startswith(ACCURACIES)}
    known = [name for name in rows if any(_interval(method, name) for method in content["methods"].values())] or list(rows)
    found: dict[str, list[str]] = {}
    for name in known:
        found.setdefault(name.partition("@")[2], []).append(name)
    return found


def _interval(method: Mapping[str, Any], metric: str) -> list[float] | None:
    interval: list[float] | None = method["metrics"].get(metric, {}).get("ci95")
    return interval


def _metrics_table(content: Mapping[str, Any], metrics: list[str]) -> str:
    labels = content["data"].get("labels", {})
    rows = []
    for name, method in content["methods"].items():
        found = [method["metrics"].get(metric) for metric in metrics]
        if any(found):
            rows.append([labels.get(name, name), *("" if row is None else with_interval(row["mean"], row["ci95"]) for row in found)])
    return as_markdown(["method", *(metric.partition("@")[0] for metric in metrics)], rows)


def _difference_tables(content: Mapping[str, Any], metrics: list[str]) -> list[str]:
    labels = content["data"].get("labels", {})
    by_base: dict[str, dict[str, dict[str, str]]] = {}
    for row in content["paired"]:
        if row["metric"] in metrics:
            difference = with_interval(row["difference"], row["ci95"], sign=True)
            by_base.setdefault(row["reference"], {}).setdefault(row["method"], {})[row["metric"]] = difference
    tables = []
    for base, methods in by_base.items():
        rows = [[labels.get(name, name), *(found.get(metric, "") for metric in metrics)] for name, found in methods.items()]
        tables.append(as_markdown([f"minus {labels.get(base, base)}", *(metric.partition("@")[0] for metric in metrics)], rows))
    return tables


def benchmark_page() -> str:
    """Benchmarks and compression recipes: a table for each summary of single models."""
    lines = ["# Benchmarks and compression recipes\n"]
    lines += ["Single models on one machine. Accuracy in points, times as ratios within a round to the model of the row; 95 % intervals.\n"]
    for path in sorted((RESULTS / "benchmark").glob("*.json")) + sorted((RESULTS / "compress").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        data, methods = content["data"], content["methods"]
        metric = next((name for name in ("top1", "ap50", "recall50") if any(name in each["metrics"] for each in methods.values())), "")
        pairs = {row["method"]: row for row in content["paired"] if row["metric"] == metric}
        rows = [_single_row(name, method["metrics"], metric, pairs.get(name)) for name, method in methods.items()]
        head = ["model", metric or "accuracy", "difference", "to", "latency", "from file", "bytes"]
        lines += [f"## {data.get('benchmark', path.stem)}\n", as_markdown(head, rows)]
    return "\n".join(lines)


def _single_row(name: str, metrics: Mapping[str, Any], metric: str, pair: Mapping[str, Any] | None) -> list[str]:
    accuracy = with_interval(metrics[metric]["mean"], metrics[metric]["ci95"]) if metric in metrics else ""
    difference = with_interval(pair["difference"], pair["ci95"], sign=True) if pair else ""
    times = [_ratio(metrics.get(f"{kind}_ratio@b1t1")) for kind in ("latency", "end_to_end")]
    size = next((f"{metrics[key]['mean']:,.0f}" for key in ("file_bytes", "bytes") if key in metrics), "")
    return [name, accuracy, difference, pair["reference"] if pair else "", *times, size]


def _ratio(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['mean']:.3g}" + (f" [{row['ci95'][0]:.3g}, {row['ci95'][1]:.3g}]" if row["ci95"] else "")


def performance() -> str:
    """The page of the performance suite."""
    from vidkd.report.performance import performance_page

    return performance_page(json.loads((RESULTS / "performance.json").read_text(encoding="utf-8")))


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
    """A page with its tables written anew."""

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
