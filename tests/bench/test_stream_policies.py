"""Every policy in a study of streams whose length is no multiple of anything: all spend the same number of calls."""

import numpy as np
import pytest
from stream_study_samples import let_painter_be_the_oracle, make_places, make_root, make_study, study_content

from vidkd.base.errors import DataError
from vidkd.bench.study import run_cells
from vidkd.detection.policies import BARE

FRAMES, CALLS = 37, 3
METHODS = {
    **{name: {"policy": name} for name in (*BARE, "hindsight")},
    "flow": {"kind": "flow"},
    "first_tenth": {"kind": "first_tenth"},
    "student": {"kind": "frozen"},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    streams = {"both": {"segments": [{"video": "both", "frames": [0, FRAMES]}]}}
    update = {"trains": "all", "lr": 0.01, "steps": 1, "replay": 0}
    study = make_study(folder, study_content(streams=streams, methods=METHODS, update=update, seeds=[0]))
    places = make_places(make_root(folder / "root"), folder)
    with pytest.MonkeyPatch.context() as patch:
        let_painter_be_the_oracle(patch)
        cells = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    return study, places, cells


def test_every_policy_spends_the_calls_of_the_whole_stream(done) -> None:
    study, places, cells = done
    counts = {key.method: len(cell["called"]) for key, cell in cells.items()}
    assert counts == {**dict.fromkeys(METHODS, CALLS), "student": 0}
    for key, cell in cells.items():
        if "policy" in METHODS[key.method]:
            assert set(cell["kept"]) <= set(cell["called"]), key
    summary = study.summarise(places.store(study.name).cells("test"), {})
    assert {summary["methods"][name]["metrics"]["oracle_calls@calls10"]["mean"] for name in BARE} == {CALLS}


def test_policies_that_do_not_plan_are_apart_and_none_is_far_behind(done) -> None:
    _, _, cells = done
    called = {key.method: cell["called"] for key, cell in cells.items()}
    even = FRAMES / CALLS
    for name in BARE:
        if name not in ("fixed", "random"):
            assert min(np.diff(called[name])) >= FRAMES // (2 * CALLS), name
            assert all(place <= even * (number + 1) + 1 for number, place in enumerate(called[name])), name
    assert called["fixed"] == [0, 13, 25]
    assert min(np.diff(called["hindsight"])) >= FRAMES // (2 * CALLS)


def test_cells_of_one_share_that_spent_unlike_numbers_of_calls_are_not_summarised(done) -> None:
    study, places, _ = done
    found = places.store(study.name).cells("test")
    name = "stride-calls10-s0-both"
    found[name] = {**found[name], "called": found[name]["called"][:-1]}
    with pytest.raises(DataError, match=r"(?s)different numbers of calls.*0/both.*10 %.*3 by fixed, .*2 by stride"):
        study.summarise(found, {})
