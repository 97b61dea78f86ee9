"""`python -m vidkd VERB`, where the console entry point is not at hand."""

import sys

from vidkd.cli.main import main

sys.exit(main())
