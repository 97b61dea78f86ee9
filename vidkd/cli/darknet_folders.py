"""Verbs that take a detector by the folder in which a step of a recipe left it as darknet files."""

import argparse
from pathlib import Path


def naming_files(arguments: argparse.Namespace, *, model: str) -> argparse.Namespace:
    """The arguments with the darknet files of --model, where that is a folder of these and of no run; files that are named stay.

    model: the argument that takes the cfg.
    """
    from vidkd.detection.opening import darknet_files

    if arguments.checkpoint is None or not (files := darknet_files(Path(arguments.checkpoint))):
        return arguments
    found = {model if name == "model" else name: str(path) for name, path in files.items() if getattr(arguments, name, None) is None}
    return argparse.Namespace(**{**vars(arguments), "checkpoint": None, **found})
