"""The headless browser in which pages and videos are looked at, where there is one."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from started import run_to_end

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Flags with which it opens nothing but what it is given."""
Test = TypeVar("Test", bound=Callable[..., None])


def needs_chromium(test: Test) -> Test:
    """Mark a test that opens a browser: `make test-pages` runs it; skipped where there is none."""
    skip = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
    return pytest.mark.browser(pytest.mark.slow(skip(test)))


def dump(folder: Path, page: Path, *flags: str, timeout_s: float = 90) -> "subprocess.CompletedProcess[str]":
    """What the browser makes of a page, as text, and what it says of it; its profile lies in `folder`.

    It is ended with its processes where they take longer than `timeout_s`, with TimeoutExpired.
    """
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, *flags, "--dump-dom", f"--user-data-dir={folder / 'profile'}", page.resolve().as_uri()]
    return run_to_end(command, timeout_s=timeout_s, check=True)
