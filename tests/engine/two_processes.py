"""The vidkd command, or another script, in two processes on one machine."""

import sys
from collections.abc import Sequence

from started import run_to_end


def torchrun(*arguments: str, script: Sequence[str] = ("-m", "vidkd.cli.main")) -> str:
    """Run the vidkd command in two processes; both end well. Returns what they wrote to standard output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *script, *arguments]
    done = run_to_end(command, timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
