import sys

from vidkd.cli.main import run_verb

if __name__ == "__main__":
    sys.exit(run_verb("study"))
