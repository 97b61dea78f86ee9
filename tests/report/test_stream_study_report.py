"""The page of a study along streams: its tables hold the summary's numbers, in percent where they are shares."""

from typing import Any

from vidkd.report.parts import Estimate
from vidkd.report.stream_study import stream_study_report


def metric(mean: float, ci95: list[float] | None = None) -> dict[str, Any]:
    return {"values": {"0/street": mean, "1/street": mean}, "mean": mean, "ci95": ci95, "n": 2}


def summary() -> dict[str, Any]:
    def method(gain: float) -> dict[str, Any]:
        at = {share: {"f1": metric(0.5 + gain, [0.4, 0.6]), "oracle_calls": metric(12.4), "student_ms": metric(7.0)} for share in (5, 10)}
        metrics = {f"{name}@calls{share}": row for share, rows in at.items() for name, row in rows.items()}
        return {"metrics": metrics, "parameters": 9, "train_seconds": 1.0}

    pair = {"method": "fixed", "reference": "student", "metric": "f1@calls5", "difference": -0.125, "ci95": [-0.25, 0.0625], "pairs": 2}
    data = {"name": "street", "frames": {"street": 80}, "seeds": [0, 1], "block": 25, "shorter_blocks": {}, "reference": ["student"]}
    return {
        "schema_version": 1,
        "study": "street",
        "data": {**data, "labels": {"student": "frozen", "fixed": "fixed interval"}},
        "environment": {"torch": "2"},
        "methods": {"student": method(0.0), "fixed": method(0.25)},
        "paired": [pair],
        "seconds": 90.0,
    }


def test_tables_hold_the_numbers_of_the_summary() -> None:
    report = stream_study_report(summary(), title="A street", text="Why.")
    tables = {table.title: table for table in report.tables}
    assert list(tables) == [
        "F1 against the oracle, at shares of frames sent to it",
        "F1 minus that of frozen",
        "At 5 % calls",
        "At 10 % calls",
    ]
    quality, difference, detail, _ = tables.values()
    assert quality.columns == ("method", "5 %", "10 %")
    assert quality.rows[1] == ("fixed interval", *[Estimate(value=0.75, ci95=(0.4, 0.6))] * 2)
    assert difference.rows == (("fixed interval", Estimate(value=-0.125, ci95=(-0.25, 0.0625), signed=True)),)
    assert detail.rows[0] == ("frozen", 12), "milliseconds of a part are not told, calls are a number"
    assert "numbers a stream" in detail.caption
    assert "numbers a stream" not in quality.caption
    assert (report.subtitle, report.notes["seeds"], report.notes["time"]) == ("2 methods along street (80 frames)", "0, 1", "1m30s")


def test_quality_against_calls_is_the_only_curve() -> None:
    assert [figure.title for figure in stream_study_report(summary()).figures] == ["f1 by calls"]
