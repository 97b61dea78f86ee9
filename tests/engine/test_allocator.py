"""Memory that is freed is kept for the next step, unless the user said otherwise."""

import json
import platform
import sys

import pytest
from started import run_to_end

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

pytestmark = pytest.mark.slow  # two processes that import torch
PAGES_OF_A_STEP = 32 * 2**20 // 4096
COUNT_FAULTS = """
import json, resource, sys
import torch
from vidkd.engine.devices import keep_freed_memory

def step():
    for _ in range(2):
        torch.ones(8 * 2**20)  # 32 MiB of float32, written and freed

kept = keep_freed_memory(json.loads(sys.argv[1]))
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(environment: dict[str, str]) -> tuple[bool, int]:
    """Whether glibc keeps freed memory, and the pages that the system had to hand over in ten steps; in a process of its own."""
    words = run_to_end([sys.executable, "-c", COUNT_FAULTS, json.dumps(environment)], check=True).stdout.split()
    return words[0] == "True", int(words[1])


@needs_glibc
def test_a_step_takes_no_new_pages() -> None:
    kept, faults = count_faults({})
    assert kept
    assert faults < PAGES_OF_A_STEP / 4, "ten steps of two tensors, and not the pages of a quarter of one tensor"


@needs_glibc
def test_the_user_s_own_choice_stays() -> None:
    kept, faults = count_faults({"MALLOC_TRIM_THRESHOLD_": "131072"})
    assert not kept
    assert faults > 10 * PAGES_OF_A_STEP, "as glibc does by itself: every tensor is mapped anew"
