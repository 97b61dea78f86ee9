"""Write the embedded data set as real video files, in the layout of UCF101: the motion of one shape among others is the class.

A second call finds the work done, and a call after an interruption goes on. What the knobs do is told in docs/motion_shapes.md.

  vidkd make_motion_shapes --out data/motion_shapes
  vidkd make_motion_shapes --out data/hard --distractors 6 --contrast 0.2 --seed 1
"""

import argparse
import dataclasses
import sys
import typing
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb: one flag for every field of MotionShapesConfig."""
    from vidkd.data.motion_shapes.config import MotionShapesConfig

    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; another config's data set there is an error")
    parser.add_argument("--workers", type=int, help="processes (default: one a CPU)")
    knobs = parser.add_argument_group("what is made")
    told, types = _help_of_fields(MotionShapesConfig), typing.get_type_hints(MotionShapesConfig)
    for field in dataclasses.fields(MotionShapesConfig):
        flag = f"--{field.name.replace('_', '-')}"
        if field.name == "classes":
            knobs.add_argument(flag, nargs="+", default=field.default, help=f"{told[field.name]} (default: all six)")
        else:
            knobs.add_argument(flag, type=types[field.name], default=field.default, help=f"{told[field.name]} (default: {field.default})")


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say what was written."""
    from vidkd.data.motion_shapes import MotionShapesConfig, write_motion_shapes

    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(MotionShapesConfig)}
    config = MotionShapesConfig(**{**values, "classes": tuple(arguments.classes)})
    done = write_motion_shapes(arguments.out, config, workers=arguments.workers)
    sys.stdout.write(
        f"motion_shapes: {done.train} training and {done.test} test clips of {len(config.classes)} classes in {done.out}"
        f" ({done.written} written, {done.kept} already there, {done.seconds:.1f} s)\n"
    )
    return 0


def _help_of_fields(config: type) -> dict[str, str]:
    """The description of each field, from the docstring of the config, with % made safe for argparse."""
    import docstring_parser

    parsed = docstring_parser.parse(config.__doc__ or "")
    return {item.arg_name: (item.description or "").rstrip(".").replace("%", "%%") for item in parsed.params}
