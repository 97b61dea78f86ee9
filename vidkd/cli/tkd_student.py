"""`tkd --save-student`: whose student lies in a folder, so that no run replaces or claims that of another."""

from pathlib import Path

from vidkd.base.errors import ConfigError


def refuse_saved(folder: Path, saved: Path | None, *, overwrite: bool) -> None:
    """Raise ConfigError where a run would write its student over one that is not its own.

    folder: of the run. saved: where its student is kept, None for nowhere.
    """
    from vidkd.detection.opening import EXPORTED, saved_by

    if saved is None or overwrite or saved_by(saved) == folder.resolve():
        return
    for suffix in ("cfg", "weights", "names"):
        if (there := saved / f"{EXPORTED}.{suffix}").exists():
            raise ConfigError(f"the output exists: {there}", hint="another --save-student, or --overwrite to replace it")


def check_saved(folder: Path, saved: Path | None) -> None:
    """Raise ConfigError for a finished run whose student is not there: it was made without --save-student, or with another one."""
    from vidkd.detection.opening import EXPORTED, saved_by

    if saved is not None and not ((saved / f"{EXPORTED}.weights").exists() and saved_by(saved) == folder.resolve()):
        raise ConfigError(
            f"the run in {folder} was finished without --save-student {saved}, and its student is gone",
            hint="--overwrite makes it again",
        )
