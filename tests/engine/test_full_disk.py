"""A disk that fills up costs what was being written, never what was there before."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_states import full_disk, same, state

from vidkd.base.errors import WriteError
from vidkd.engine import checkpoint, fit
from vidkd.engine.config import RunConfig

Config = Callable[..., RunConfig]


def content_of(step: int) -> dict[str, Any]:
    return {"student": {}, "optimizer": {"weights": torch.full((100_000,), float(step))}, "step": step}


def test_a_write_that_breaks_off_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, content_of(1))
    before = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the file is four times as long: the write fails in the middle
    try:
        with pytest.raises(WriteError) as caught:
            checkpoint.save_checkpoint(tmp_path, content_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.what == f"cannot write: {tmp_path / '.new.pt'}"
    assert caught.value.lines["reason"] == os.strerror(errno.EFBIG)
    assert "free disk space" in caught.value.lines["fix"]
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_goes_on_when_the_disk_has_room_again(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train.steps": 4, "train.save_every_s": 0}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="full")
    write, calls = checkpoint.write_checkpoint, []

    def fills_up(path: Path, content: dict[str, Any]) -> None:
        calls.append(path)
        full_disk() if len(calls) > 2 else write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", fills_up)
        with pytest.raises(WriteError, match=os.strerror(errno.ENOSPC)):
            fit.fit(config, quiet=True)
    folder = Path(config.runs, "full")
    assert state(folder)["progress"]["step"] == 2
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))
