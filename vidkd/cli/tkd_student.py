"""`tkd --save-student`: whose student lies in a folder, so that no run replaces or claims that of another."""

from pathlib import Path

from vidkd.base.errors import ConfigError


def _is_of(folder: Path, saved: Path) -> bool:
    """Whether the student that lies in `saved` is that of the run in `folder`."""
    from vidkd.detection.opening import EXPORTED, recorded

    return recorded(saved / f"{EXPORTED}.cfg", "run") == str(folder.resolve())


def refuse_saved(folder: Path, saved: Path | None, *, overwrite: bool) -> None:
    """Raise ConfigError where a run would write its student over one that is not its own.

    folder: of the run. saved: where its student is kept, None for nowhere.
    """
    from vidkd.detection.opening import EXPORTED

    if saved is None or overwrite or _is_of(folder, saved):
        return
    if there := sorted(saved.glob(f"{EXPORTED}.*")):
        raise ConfigError(f"the output exists: {there[0]}", hint="another --save-student, or --overwrite to replace it")


def check_saved(folder: Path, saved: Path | None) -> None:
    """Raise ConfigError for a finished run whose student is not there: it was made without --save-student, or with another one."""
    if saved is not None and not _is_of(folder, saved):
        raise ConfigError(
            f"the run in {folder} was finished without --save-student {saved}, and its student is gone",
            hint="--overwrite makes it again",
        )
