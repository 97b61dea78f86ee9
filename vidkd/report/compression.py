"""The page of a recipe of compression: what every step did to accuracy and size, and to which layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidkd.bench.compression import GROUPS_ALONE, RECIPE_COSTS
from vidkd.compress.quantise import KIND_WORDS, counted
from vidkd.report.parts import Report, Table, is_share
from vidkd.report.study import long_table

SMALLER = " A step is compared in size with the original in the same form: weights in memory, or a file in float."
NOT_JUDGED = "; not judged, for vidkd does not run this format"


def compression_report(
    summary: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]], *, main: str, command: str = "", config_text: str = ""
) -> Report:
    """summary: of `bench.compression`. outcomes: the content of each step by its name. main: the metric that is compared."""
    return Report(
        title=str(summary["study"]).replace("_", " "),
        subtitle=f"{len(outcomes) - 1} steps of compression, each judged on '{summary['data']['subset']}'.",
        command=command,
        config_text=config_text,
        tables=(_steps(summary, main), *_files(summary), *_layers(outcomes)),
        notes={"student": str(summary["data"]["student"]), "judged on": str(summary["data"]["subset"])},
        environment=summary["environment"],
    )


def _steps(content: Mapping[str, Any], main: str) -> Table:
    frame = long_table(content)
    cells = {(row.method, row.reference == "", row.metric): row.cell for row in frame.itertuples()}
    further = [name for name in frame.metric.unique() if name not in (main, *RECIPE_COSTS) and ("@" in name or name.endswith("_area"))]
    rows = []
    for name, method in content["methods"].items():
        costs = {cost: method["metrics"][cost]["mean"] for cost in RECIPE_COSTS if cost in method["metrics"]}
        judged = [cells.get((name, True, main)), cells.get((name, False, main)), *(cells.get((name, True, metric)) for metric in further)]
        smaller = costs["original_bytes"] / costs["bytes"] if "original_bytes" in costs else None
        size = (method["parameters"], costs["macs"] / 1e6, int(costs["bytes"]), smaller)
        rows.append((name, *judged, *size, method["train_seconds"]))
    unit = " (%)" if is_share(main) else ""
    columns = (
        "step",
        f"{main}{unit}",
        f"minus the original{' (points)' if is_share(main) else ''}",
        *further,
        "parameters",
        "million MACs",
        "bytes",
        "times smaller",
        "trained (s)",
    )
    return Table(title="Steps", columns=columns, rows=tuple(rows), caption=GROUPS_ALONE + SMALLER)


def _files(content: Mapping[str, Any]) -> Sequence[Table]:
    """How near each exported file is to the network that it comes from."""
    rows = [
        (step, file, _nearness(file, near)) for step, files in content["data"].get("parity", {}).items() for file, near in files.items()
    ]
    if not rows:
        return []
    caption = "Network and file were run on the same clips or frames. Integers round: a file in them is warned of, not refused."
    return [Table(title="Files against their network", columns=("step", "file", "how near"), rows=tuple(rows), caption=caption)]


def _nearness(file: str, near: Mapping[str, Any]) -> str:
    warning = f"; warning: {near['warning']}" if "warning" in near else ""
    return f"{near['said']}{warning}{NOT_JUDGED if file.endswith('.pt2') else ''}"


def _layers(outcomes: Mapping[str, Mapping[str, Any]]) -> Sequence[Table]:
    """What each step did to which layers, and which it left and why."""
    tables = []
    before: Mapping[str, Any] = {}
    for name, content in outcomes.items():
        notes = content["notes"]
        same, before = before.get("integer_convolutions") is not None and notes.get("layers") == before.get("layers"), notes
        if same:  # an export of what was quantised right before it
            continue
        integers = "integer_convolutions" in notes
        stays = "stays in float" if integers else "unchanged"
        rows = [(layer, _done(str(what), integers)) for layer, what in notes.get("layers", {}).items()]
        rows += [(layer, f"{stays}: {reason}") for layer, reason in notes.get("left", {}).items()]
        if rows:
            caption = _counted(notes, content.get("settings", {}))
            tables.append(Table(title=f"Layers: {name}", columns=("layer", "what was done"), rows=tuple(rows), caption=caption))
    return tables


def _done(what: str, integers: bool) -> str:
    """What was done to a layer; notes of integers name only its operation, as ONNX calls it."""
    return f"in eight-bit integers ({KIND_WORDS.get(what, what)})" if integers else what


def _counted(notes: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """How many layers of a step changed, as the program prints it; of a pruning also what its rows leave out."""
    left = len(notes.get("left", {}))
    if "integer_convolutions" in notes:
        return f"{counted(notes['layers'].values())}; {left or 'none'} in float."
    changed = len(notes.get("layers", {}))
    text = f"{changed} layer{'s' * (changed != 1)} changed, {left or 'none'} unchanged."
    return (
        f"{text} A layer behind one that lost filters loses the inputs that these gave, which no row shows."
        if "criterion" in settings
        else text
    )
