"""Write an embedded data set as real video files: the motion of one shape among others is the class.

Variant `trimmed` (the default) has a clip a motion, in the layout of UCF101. Variant `cued`, for anticipation, has untrimmed videos: a
small cue, a journey of `--shift` pixels, and the action that the cue announced. Variant `street`, for detection along a stream, has shapes
that pass a fixed camera, in scenes that change and return. A second call finds the work done, and a call after an interruption goes on.
What the knobs do is told in docs/guides/synthetic.md and docs/guides/detection.md.

  vidkd make_data --out data/motion_shapes
  vidkd make_data --out data/hard --distractors 6 --contrast 0.2 --seed 1
  vidkd make_data --variant cued --out data/cued --shift 20
  vidkd make_data --variant street --out data/street
"""

import argparse
import dataclasses
import re
import sys
import typing
from pathlib import Path

from vidkd.cli.number_flags import add_count

VARIANTS = ("trimmed", "cued", "street")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb: one flag for every field of the variants' configs."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; another config's data set there is an error")
    parser.add_argument("--variant", choices=VARIANTS, default="trimmed", help="which data set (default: trimmed)")
    add_count(parser, "--workers", least=0, help="processes (default: one a CPU)")
    fields = _fields()
    groups = dict.fromkeys(tuple(by_variant) for by_variant in fields.values())
    for variants in groups:
        knobs = parser.add_argument_group(f"what is made: {', '.join(variants)}")
        for name, by_variant in fields.items():
            if tuple(by_variant) == variants:
                _add_knob(knobs, name, by_variant)


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say what was written."""
    from vidkd.base.errors import ConfigError
    from vidkd.cli.outputs import check_folder

    values = _values(arguments)
    check_folder("--out", arguments.out)
    try:
        sys.stdout.write(_WRITERS[arguments.variant](arguments.out, values, arguments.workers))
    except ConfigError as error:
        named = [_flag(name) for name in values if re.search(rf"\b{name}\b", error.what)]
        if not named:
            raise
        raise error.with_lines(where=f"{' and '.join(named)} on the command line") from error
    return 0


def _write_trimmed(out: Path, values: dict[str, typing.Any], workers: int | None) -> str:
    from vidkd.data.synthetic.motion import MotionShapesConfig, write_motion_shapes

    config = MotionShapesConfig(**values)
    done = write_motion_shapes(out, config, workers=workers)
    said = f"motion_shapes: {done.counts['train']} training and {done.counts['test']} test clips of {len(config.classes)} classes"
    said += f" in {done.out}"
    return said + f" ({done.written} written, {done.kept} already there, {done.seconds:.1f} s)\n"


def _write_cued(out: Path, values: dict[str, typing.Any], workers: int | None) -> str:
    from vidkd.data.synthetic.cued import write_cued_shapes
    from vidkd.data.synthetic.cued_path import CuedShapesConfig

    config = CuedShapesConfig(**values)
    done = write_cued_shapes(out, config, workers=workers)
    said = f"cued_shapes: {done.counts['train']} training and {done.counts['test']} test actions of {len(config.classes)} classes"
    said += f" in {config.files_train} and {config.files_test} videos in {done.out}"
    return said + f" ({done.written} videos written, {done.kept} already there, {done.seconds:.1f} s)\n"


def _write_street(out: Path, values: dict[str, typing.Any], workers: int | None) -> str:
    from vidkd.data.synthetic.street import write_street_shapes
    from vidkd.data.synthetic.street_scene import StreetShapesConfig

    config = StreetShapesConfig(**values)
    done = write_street_shapes(out, config, workers=workers)
    said = (
        f"street_shapes: {done.counts['videos']} videos and {done.counts['streams']} streams of {len(config.kinds)} classes in {done.out}"
    )
    return said + f" ({done.written} written, {done.kept} already there, {done.seconds:.1f} s)\n"


_WRITERS: dict[str, typing.Callable[[Path, dict[str, typing.Any], int | None], str]] = dict(
    zip(VARIANTS, (_write_trimmed, _write_cued, _write_street), strict=True)
)


@dataclasses.dataclass(frozen=True)
class _Knob:
    """A field of one variant's config."""

    type: typing.Any
    told: str
    default: typing.Any


def _fields() -> dict[str, dict[str, _Knob]]:
    """{field: {variant: knob}}, for every variant that has the field."""
    found: dict[str, dict[str, _Knob]] = {}
    for variant, config in _configs().items():
        told, types = _help_of_fields(config), typing.get_type_hints(config)
        for field in dataclasses.fields(typing.cast(typing.Any, config)):
            found.setdefault(field.name, {})[variant] = _Knob(types[field.name], told[field.name], field.default)
    return found


def _configs() -> dict[str, type]:
    from vidkd.data.synthetic.cued_path import CuedShapesConfig
    from vidkd.data.synthetic.motion import MotionShapesConfig
    from vidkd.data.synthetic.street_scene import StreetShapesConfig

    return dict(zip(VARIANTS, (MotionShapesConfig, CuedShapesConfig, StreetShapesConfig), strict=True))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _add_knob(knobs: argparse._ArgumentGroup, name: str, by_variant: dict[str, _Knob]) -> None:
    """One flag; None where it is not given, so that each variant keeps its own default."""
    knob = next(iter(by_variant.values()))
    defaults = {_shown(each.default) for each in by_variant.values()}
    by_name = "; ".join(f"{variant} {_shown(each.default)}" for variant, each in by_variant.items())
    told = f"{knob.told} (default: {by_name if len(defaults) > 1 else defaults.pop()})"
    if typing.get_origin(knob.type) is tuple:
        knobs.add_argument(_flag(name), nargs="+", help=told)
    else:
        knobs.add_argument(_flag(name), type=knob.type, help=told)


def _shown(default: typing.Any) -> str:
    return " ".join(default) if isinstance(default, tuple) else str(default)


def _values(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The fields that were given. Raises ConfigError for one that the variant does not have."""
    from vidkd.base.errors import ConfigError

    fields = _fields()
    given = {name: value for name in fields if (value := getattr(arguments, name)) is not None}
    foreign = sorted(name for name in given if arguments.variant not in fields[name])
    if foreign:
        other = next(iter(fields[foreign[0]]))
        raise ConfigError(f"{_flag(foreign[0])} is a knob of the variant '{other}'", variant=arguments.variant, hint=f"--variant {other}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _help_of_fields(config: type) -> dict[str, str]:
    """The description of each field, from the docstrings of the config and its bases, with % made safe for argparse."""
    import docstring_parser

    parsed = [item for base in reversed(config.__mro__) for item in docstring_parser.parse(base.__doc__ or "").params]
    return {item.arg_name: (item.description or "").rstrip(".").replace("%", "%%") for item in parsed}
