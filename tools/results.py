import sys

from vidkd.cli.main import run_verb

sys.exit(run_verb("results"))
