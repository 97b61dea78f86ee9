"""Write an embedded data set as real video files: the motion of one shape among others is the class.

Variant `trimmed` (the default) has a clip a motion, in the layout of UCF101. Variant `cued`, for anticipation, has untrimmed videos: a
small cue, a journey of `--shift` pixels, and the action that the cue announced. A second call finds the work done, and a call after an
interruption goes on. What the knobs do is told in docs/motion_shapes.md.

  vidkd make_motion_shapes --out data/motion_shapes
  vidkd make_motion_shapes --out data/hard --distractors 6 --contrast 0.2 --seed 1
  vidkd make_motion_shapes --variant cued --out data/cued --shift 20
"""

import argparse
import dataclasses
import sys
import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from vidkd.data.motion_shapes.scene_config import SceneConfig

VARIANTS = ("trimmed", "cued")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb: one flag for every field of MotionShapesConfig and CuedShapesConfig."""
    from vidkd.data.motion_shapes.scene_config import SceneConfig

    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; another config's data set there is an error")
    parser.add_argument("--variant", choices=VARIANTS, default="trimmed", help="which data set (default: trimmed)")
    parser.add_argument("--workers", type=int, help="processes (default: one a CPU)")
    _add_knobs(parser, "what is made", SceneConfig, set())
    for variant, config in _configs().items():
        _add_knobs(parser, f"what is made: {variant} only", config, _names(SceneConfig))


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say what was written."""
    from vidkd.data.cued_shapes import CuedShapesConfig, write_cued_shapes
    from vidkd.data.motion_shapes import MotionShapesConfig, write_motion_shapes

    values = _values(arguments)
    if arguments.variant == "cued":
        cued = CuedShapesConfig(**values)
        written = write_cued_shapes(arguments.out, cued, workers=arguments.workers)
        said = f"cued_shapes: {written.train} training and {written.test} test actions of {len(cued.classes)} classes"
        said += f" in {cued.files_train} and {cued.files_test} videos in {written.out}"
        said += f" ({written.written} videos written, {written.kept} already there, {written.seconds:.1f} s)\n"
    else:
        config = MotionShapesConfig(**values)
        done = write_motion_shapes(arguments.out, config, workers=arguments.workers)
        said = f"motion_shapes: {done.train} training and {done.test} test clips of {len(config.classes)} classes in {done.out}"
        said += f" ({done.written} written, {done.kept} already there, {done.seconds:.1f} s)\n"
    sys.stdout.write(said)
    return 0


def _configs() -> "dict[str, type[SceneConfig]]":
    from vidkd.data.cued_shapes.config import CuedShapesConfig
    from vidkd.data.motion_shapes.config import MotionShapesConfig

    return dict(zip(VARIANTS, (MotionShapesConfig, CuedShapesConfig), strict=True))


def _names(config: "type[SceneConfig]") -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _add_knobs(parser: argparse.ArgumentParser, title: str, config: "type[SceneConfig]", without: set[str]) -> None:
    """One flag for every field of the config; None where it is not given, so that each variant keeps its own default."""
    knobs, told, types = parser.add_argument_group(title), _help_of_fields(config), typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in without:
            continue
        if field.name == "classes":
            knobs.add_argument(_flag(field.name), nargs="+", help=f"{told[field.name]} (default: all six)")
        else:
            knobs.add_argument(_flag(field.name), type=types[field.name], help=f"{told[field.name]} (default: {field.default})")


def _values(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The fields that were given. Raises ConfigError for one that the variant does not have."""
    from vidkd.base.errors import ConfigError

    configs = _configs()
    given = {name: value for name in set().union(*map(_names, configs.values())) if (value := getattr(arguments, name)) is not None}
    foreign = sorted(given.keys() - _names(configs[arguments.variant]))
    if foreign:
        other = next(variant for variant, config in configs.items() if foreign[0] in _names(config))
        raise ConfigError(
            f"{_flag(foreign[0])} is a knob of the variant '{other}'", variant=arguments.variant, to_mend=f"--variant {other}"
        )
    return {**given, **({"classes": tuple(given["classes"])} if "classes" in given else {})}


def _help_of_fields(config: type) -> dict[str, str]:
    """The description of each field, from the docstring of the config, with % made safe for argparse."""
    import docstring_parser

    parsed = docstring_parser.parse(config.__doc__ or "")
    return {item.arg_name: (item.description or "").rstrip(".").replace("%", "%%") for item in parsed.params}
