"""The vidkd command in two processes on one machine."""

import subprocess
import sys


def torchrun(*arguments: str) -> None:
    """Run the vidkd command in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vidkd.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
