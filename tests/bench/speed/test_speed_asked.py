"""The command and the settings of a benchmark, as its summary keeps and tells them."""

import dataclasses

import yaml
from speed_results import results

from vidkd.bench.speed.asked import FILE_ALONE, NOT_RECORDED, kept_command, told_command, told_settings
from vidkd.bench.speed.record import summary_of


def test_a_summary_tells_what_was_measured_not_what_the_file_said() -> None:
    made = results()
    config = dataclasses.replace(made.config, calls=7, block_s=0.25, data=dataclasses.replace(made.config.data, root="/home/me/shapes"))
    words = ["vidkd", "benchmark", "b.yaml", "--root=/data/all", "--calls", "7", "--data.root", "/home/me/shapes", "--device=cpu"]
    data = summary_of(dataclasses.replace(made, config=config, device="cpu"), "calls: 10\n", words)["data"]
    assert data["config"] == "calls: 10\n"
    assert told_command(data) == "vidkd benchmark b.yaml --root=.../all --calls 7 --data.root .../shapes --device=cpu"
    told = yaml.safe_load(told_settings(data))
    assert (told["device"], told["calls"], told["block_s"], told["rounds"]) == ("cpu", 7, 0.25, 5)
    assert (told["batches"], told["threads"], told["data"]["root"]) == ([1, 4], [1, 2], ".../shapes")
    assert told["models"]["small"] == {"checkpoint": "runs/small"}
    assert "/home" not in str(data)


def test_what_an_older_summary_does_not_tell_is_said() -> None:
    older = {"config": "rounds: 3\n"}
    assert told_command(older) == NOT_RECORDED
    assert told_settings(older) == f"{FILE_ALONE}\nrounds: 3\n"


def test_words_with_spaces_stay_whole() -> None:
    assert kept_command(["vidkd", "--data.root=/a b/c d", "x y"]) == "vidkd '--data.root=.../c d' 'x y'"
