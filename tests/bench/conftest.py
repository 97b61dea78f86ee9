"""What the tests of studies of streams share: a painter in the oracle's place, and a folder of drawn videos."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stream_study_samples import let_painter_be_the_oracle, make_root, write_selector


@pytest.fixture(scope="module")
def painter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        let_painter_be_the_oracle(patch)
        threads = torch.get_num_threads()
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_root(tmp_path_factory.mktemp("root"))
    write_selector(folder / "untaught_both.pt")
    return folder
