"""The challenge's file, checked against what its evaluation asks for."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.evaluate import Predictions
from vidkd.report import epic_submission as submission_module
from vidkd.report.epic_submission import Levels, action_pairs, label_prior, submission, submission_of, write_submission

NAMES = ["P01_11_0", "P02_09_17"]
VERBS = np.array([[0.5, -1.25], [1e-12, 3.0]])
NOUNS = np.array([[0.1, 0.2, 0.7], [1 / 3, 2.0, 0.0]])
ACTIONS = np.array([[0.1, 0.4, 0.2, 0.4], [0.9, 0.1, 0.0, -2.0]])
PAIRS = [(0, 0), (0, 2), (1, 1), (1, 2)]
LEVELS = Levels(1, 3, 4)


@pytest.fixture
def two_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the challenge took two actions of each clip."""
    monkeypatch.setattr(submission_module, "ACTIONS", 2)


@pytest.mark.usefixtures("two_actions")
def test_the_whole_content() -> None:
    content = submission(NAMES, VERBS, NOUNS, ACTIONS, PAIRS, LEVELS)
    assert content == {
        "version": "0.2",
        "challenge": "action_anticipation",
        "sls_pt": 1,
        "sls_tl": 3,
        "sls_td": 4,
        "results": {
            "P01_11_0": {"verb": {"0": 0.5, "1": -1.25}, "noun": {"0": 0.1, "1": 0.2, "2": 0.7}, "action": {"0,2": 0.4, "1,2": 0.4}},
            "P02_09_17": {"verb": {"0": 1e-12, "1": 3.0}, "noun": {"0": 0.3333333, "1": 2.0, "2": 0.0}, "action": {"0,0": 0.9, "0,2": 0.1}},
        },
    }
    assert list(content["results"]["P01_11_0"]["action"]) == ["0,2", "1,2"], "equal scores in the order of the classes"


def test_a_hundred_actions_of_official_size(tmp_path: Path) -> None:
    """Every verb, every noun, exactly 100 actions with known ids, the highest first, and numbers that JSON knows."""
    rng = np.random.default_rng(0)
    pairs = [(verb, noun) for verb in range(97) for noun in range(0, 300, 8)]
    scores = rng.normal(size=(3, len(pairs))).astype(np.float32)
    content = submission(["a", "b", "c"], rng.random((3, 97)), rng.random((3, 300)), scores, pairs, LEVELS)
    write_submission(tmp_path / "out" / "test.json", content)
    read = json.loads((tmp_path / "out" / "test.json").read_text())
    assert read == content
    for row, name in enumerate("abc"):
        result = read["results"][name]
        assert list(result["verb"]) == [str(n) for n in range(97)]
        assert list(result["noun"]) == [str(n) for n in range(300)]
        written = {tuple(map(int, key.split(","))): score for key, score in result["action"].items()}
        assert len(written) == 100
        expected = sorted(range(len(pairs)), key=lambda action: -scores[row, action])[:100]
        assert list(written) == [pairs[action] for action in expected]
        assert list(written.values()) == pytest.approx([float(scores[row, action]) for action in expected], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a"]}, "is there twice"),
        ({"verb_scores": np.array([[0.5, np.nan], [0, 1]])}, "scores must be finite"),
        ({"action_scores": np.where(ACTIONS == 0.9, np.inf, ACTIONS)}, "scores must be finite"),
        ({"pairs": PAIRS[:1], "action_scores": ACTIONS[:, :1]}, "knows 1 actions, 2 must be written"),
    ],
)
@pytest.mark.usefixtures("two_actions")
def test_what_the_challenge_would_refuse(change: dict[str, object], message: str) -> None:
    good = {"names": NAMES, "verb_scores": VERBS, "noun_scores": NOUNS, "action_scores": ACTIONS, "pairs": PAIRS, "levels": LEVELS}
    submission(**good)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        submission(**{**good, **change})  # type: ignore[arg-type]


def test_pairs_of_a_manifest(tmp_path: Path) -> None:
    manifest = Manifest(
        name="epic100",
        root=tmp_path,
        classes=("take tap", "put-down tap", "put-down salt:sea"),
        splits=("1",),
        clips=(),
        targets={"verb": ("take", "put-down"), "noun": ("tap", "spoon", "salt:sea")},
    )
    assert action_pairs(manifest) == [(0, 0), (1, 0), (1, 2)]
    with pytest.raises(DataError, match="no verbs and nouns"):
        action_pairs(Manifest(name="x", root=tmp_path, classes=("a",), splits=(), clips=()))
    with pytest.raises(DataError, match="class 'take' is no pair"):
        action_pairs(Manifest(name="x", root=tmp_path, classes=("take",), splits=(), clips=(), targets=manifest.targets))


def kitchen(root: Path, *, trains: str = "1") -> Manifest:
    """Three training actions of split `trains`, of (take, tap) twice and (put-down, salt:sea), and the two of NAMES to be told."""
    rows = [(0, 0, 0), (0, 0, 0), (2, 1, 2)]
    clips = [
        Clip(path=f"{n}.mp4", label=a, group="g", subsets={trains: "train"}, targets={"verb": v, "noun": u})
        for n, (a, v, u) in enumerate(rows)
    ]
    asked = [Clip(path=f"{name}.mp4", label=None, group="g", subsets={"challenge": "test"}, name=name) for name in NAMES]
    return Manifest(
        name="epic100",
        root=root,
        classes=("take tap", "put-down tap", "put-down salt:sea", "take salt:sea"),
        splits=(trains, "challenge"),
        clips=(*clips, *asked),
        targets={"verb": ("take", "put-down"), "noun": ("tap", "spoon", "salt:sea")},
    )


SIZES = {"verb": 2, "noun": 3, "label": 4}


def test_the_prior_is_the_frequencies_of_the_training_labels(tmp_path: Path) -> None:
    prior, words = label_prior(kitchen(tmp_path), "1", SIZES)
    assert words == "the frequencies of the labels among the 3 training clips of split '1'"
    assert {head: shares.tolist() for head, shares in prior.items()} == {
        "verb": [2 / 3, 1 / 3],
        "noun": [2 / 3, 0, 1 / 3],
        "label": [2 / 3, 0, 1 / 3, 0],
    }
    for split in ("challenge", "nobody knows it"):
        uniform, words = label_prior(kitchen(tmp_path), split, SIZES)
        assert words == f"the same score for all classes: the manifest has no training labels of split '{split}'"
        assert [shares.tolist() for shares in uniform.values()] == [[1 / 2] * 2, [1 / 3] * 3, [1 / 4] * 4]


@pytest.mark.usefixtures("two_actions")
def test_what_nobody_saw_gets_the_prior_behind_what_was_predicted(tmp_path: Path) -> None:
    manifest = kitchen(tmp_path)
    *_, seen, unseen = manifest.clips
    found = Predictions(ACTIONS[:1], [seen], manifest.classes, targets={"verb": VERBS[:1], "noun": NOUNS[:1]})
    content, remarks = submission_of(found, manifest, LEVELS, unobservable=[unseen], trained_split="1")
    assert (content["sls_pt"], content["sls_tl"], content["sls_td"]) == (1, 3, 4)
    assert content["results"][NAMES[0]]["verb"] == {"0": 0.5, "1": -1.25}
    assert content["results"][NAMES[1]] == {
        "verb": {"0": 0.6666667, "1": 0.3333333},
        "noun": {"0": 0.6666667, "1": 0.0, "2": 0.3333333},
        "action": {"0,0": 0.6666667, "1,2": 0.3333333},
    }
    assert len(remarks) == 1
    assert remarks[0].startswith("1 of 2 actions of the submission, of which nothing can be observed, have the frequencies")
    assert submission_of(found, manifest, LEVELS, trained_split="1") == (
        {**content, "results": {NAMES[0]: content["results"][NAMES[0]]}},
        [],
    )
    with pytest.raises(DataError, match="no submission can be made of 'epic100'") as caught:
        submission_of(found, manifest, LEVELS, unobservable=[manifest.clips[0]], trained_split="1")
    assert caught.value.lines["reason"] == "0.mp4 has no narration id (`name`)"
