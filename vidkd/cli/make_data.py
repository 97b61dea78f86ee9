"""Write an embedded data set as real video files: the motion of one shape among others is the class.

Variant `trimmed` (the default) has a clip a motion, in the layout of UCF101. Variant `cued`, for anticipation, has untrimmed videos: a
small cue, a path of `--shift` pixels, and the action that the cue announced. Variant `street`, for detection along a stream, has shapes
that pass a fixed camera, in scenes that change and return. A second call finds the work done, and a call after an interruption resumes.
Every setting of a variant is a flag; --settings lists them. See docs/guides/synthetic.md and docs/guides/detection.md.

  vidkd make_data --out data/motion_shapes
  vidkd make_data --out data/hard --distractors 6 --contrast 0.2 --seed 1
  vidkd make_data --variant cued --out data/cued --shift 20
  vidkd make_data --variant street --out data/street
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidkd.base.fields import Whole

VARIANTS = ("trimmed", "cued", "street")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which data set, and where.

    Args:
        out: folder of the data set; another config's data set there is an error.
        variant: which data set.
        workers: processes (default: one a CPU).
        list_settings: list every setting of the variant, and stop.
    """

    out: Path
    variant: Literal["trimmed", "cued", "street"] = "trimmed"
    workers: Whole | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Write the data set and say what was written."""
    from vidkd.base.errors import ConfigError, UnknownFlagError
    from vidkd.base.settings import load_settings, read_flags, settings_help
    from vidkd.cli.outputs import check_folder

    config_of = _configs()
    if given.list_settings:
        sys.stdout.write(settings_help(config_of[given.variant]))
        return 0
    flags = [(flag.removeprefix("--").replace("-", "_"), text) for flag, text in read_flags(given.settings)]
    try:
        words = [f"--{key}" if text is None else f"--{key}={text}" for key, text in flags]
        config = dataclasses.replace(load_settings(config_of[given.variant], overrides=words, of_verb=True))
    except UnknownFlagError as error:
        for key, _ in flags:
            other = next((name for name, kind in config_of.items() if key in _names(kind)), None)
            if other is not None and key not in _names(config_of[given.variant]):
                what = f"--{key.replace('_', '-')} is a setting of the variant '{other}'"
                raise ConfigError(what, variant=given.variant, hint=f"--variant {other}") from None
        raise error
    check_folder("--out", given.out)
    sys.stdout.write(_written(config, given))
    return 0


def _configs() -> dict[str, Any]:
    from vidkd.data.synthetic.cued import CuedShapesConfig
    from vidkd.data.synthetic.motion import MotionShapesConfig
    from vidkd.data.synthetic.street import StreetShapesConfig

    return dict(zip(VARIANTS, (MotionShapesConfig, CuedShapesConfig, StreetShapesConfig), strict=True))


def _names(kind: Any) -> set[str]:
    return {entry.name for entry in dataclasses.fields(kind)}


def _written(config: Any, given: Settings) -> str:
    """Write the variant; what was written, in words."""
    from vidkd.data.synthetic.cued import write_cued_shapes
    from vidkd.data.synthetic.motion import write_motion_shapes
    from vidkd.data.synthetic.street import write_street_shapes

    if given.variant == "trimmed":
        done = write_motion_shapes(given.out, config, workers=given.workers)
        said = f"{done.counts['train']} training and {done.counts['test']} test clips of {len(config.classes)} classes"
    elif given.variant == "cued":
        done = write_cued_shapes(given.out, config, workers=given.workers)
        said = f"{done.counts['train']} training and {done.counts['test']} test actions of {len(config.classes)} classes"
        said += f" in {config.files_train} and {config.files_test} videos"
    else:
        done = write_street_shapes(given.out, config, workers=given.workers)
        said = f"{done.counts['videos']} videos and {done.counts['streams']} streams of {len(config.kinds)} classes"
    return f"{config.data_set}: {said} in {done.out} ({done.written} written, {done.kept} already there, {done.seconds:.1f} s)\n"
