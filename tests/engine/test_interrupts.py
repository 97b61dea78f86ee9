"""Ctrl-C, which a terminal sends to every process of a run."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from started import started

from vidkd.data.loaders import StepSampler, training_loader
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.interrupts import Interrupt, block_sigint_in_workers, start
from vidkd.engine.setup import training_set


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_asks_and_the_second_stops_at_once() -> None:
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    with interrupt.caught():
        assert not interrupt.asked
        press()
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def exit_code_of_interrupted_child() -> int:
    """Of a process that reads a line and ends, and gets SIGINT before the line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with started([sys.executable, "-c", "print('up', flush=True); input()"], timeout_s=30, **pipes) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGINT)
        child.communicate("\n")
    return child.returncode


def test_children_do_not_hear_it_and_the_parent_hears_it_later() -> None:
    interrupt = Interrupt()
    with interrupt.caught():
        with block_sigint_in_workers():
            assert exit_code_of_interrupted_child() == 0
            press()
            assert not interrupt.asked
        assert interrupt.asked
    assert exit_code_of_interrupted_child() == -signal.SIGINT


@pytest.mark.slow
def test_processes_that_load_data_survive_it(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config(**{"data.workers": 1, "data.batch_size": 1})
    data = read_clips(config.data)
    dataset = training_set(data, config, ["rgb"])
    sampler = StepSampler(len(dataset), 1, seed=0, first_step=0, last_step=12)
    batches = start(training_loader(dataset, sampler, 1))
    next(batches)
    worker = multiprocessing.active_children()[0]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 11
