"""Errors that say what is wrong, where, and how to fix it; an optional package that is missing is one of them."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

Kind = TypeVar("Kind", bound="VidkdError")
WRITE_FIX = "free disk space, fix permissions or name another place"
SHOWN = 300
"""Characters of a foreign error's line that are repeated."""


class VidkdError(Exception):
    """An error meant for the user: one line of what, then labelled lines of where and how to mend it.

    Keyword arguments become the labelled lines, in the order given, underscores as spaces but in keys of settings (`data.split_seed`).
    `hint`, how to fix it, is shown as "fix":
    ``DataError("data set 'x' not found", looked_in="/data/x", hint="...")``.
    """

    def __init__(self, what: str, /, **lines: object) -> None:
        self.what = what
        self.lines = {_words(label): str(text) for label, text in lines.items()}
        super().__init__(self._text())

    def _text(self) -> str:
        width = max((len(label) for label in self.lines), default=0)
        return "\n".join([self.what, *(f"  {label:<{width}} : {text}" for label, text in self.lines.items())])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the labelled lines, so that an error of a worker process arrives whole."""
        return (_rebuild, (type(self), self.what, self.lines), vars(self))

    def with_lines(self: Kind, **lines: object) -> Kind:
        """The same error, of the same kind, with further labelled lines."""
        state = {name: value for name, value in vars(self).items() if name not in ("what", "lines")}
        error = _rebuild(type(self), self.what, {**self.lines, **{_words(label): str(text) for label, text in lines.items()}})
        error.__dict__.update(state)
        return error


def _words(label: str) -> str:
    return "fix" if label == "hint" else label if "." in label else label.replace("_", " ")


def _rebuild(kind: type[Kind], what: str, lines: dict[str, str]) -> Kind:
    return kind(what, **{label.replace(" ", "_"): text for label, text in lines.items()})


class ConfigError(VidkdError):
    """A configuration that cannot be used: unknown key, wrong value, parts that do not fit."""


class UnknownFlagError(ConfigError):
    """A flag that is neither one of a verb nor a setting of its configuration.

    flag: as it was given. known: flags among which the one that is meant may be.
    """

    flag: str = ""
    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, flag: str, known: Iterable[str], **lines: object) -> "UnknownFlagError":
        """The error for a flag of this kind ("flag", "setting"): names the nearest of those known."""
        known = tuple(known)
        close = nearest_flag(flag, known)
        meant = {"did_you_mean": close} if close else {}
        error = cls(f"unknown {kind} '{flag}'", **meant, **lines)
        error.flag, error.known = flag, known
        return error

    def among(self, further: Iterable[str]) -> "UnknownFlagError":
        """The same where these flags are known too."""
        kind = self.what.split()[1]
        lines = {label.replace(" ", "_"): text for label, text in self.lines.items() if label != "did you mean"}
        return UnknownFlagError.of(kind, self.flag, (*self.known, *further), **lines)


class DataError(VidkdError):
    """A data set, manifest or clip that is missing or not as declared."""


class VideoError(VidkdError):
    """A video file that cannot be opened, read or written."""


class CheckpointError(VidkdError):
    """A checkpoint that is missing, damaged or of another model."""


class WriteError(VidkdError, OSError):
    """A file that cannot be written: a full disk, missing permissions. An OSError too, so that its reason can be put into other words."""

    @classmethod
    def of(cls, path: object, error: OSError) -> "WriteError":
        """The error for a write to `path` that the system refused."""
        written = cls(f"cannot write: {path}", reason=error.strerror or error, hint=WRITE_FIX)
        written.errno, written.strerror = error.errno, error.strerror
        return written

    def __str__(self) -> str:
        return self._text()


class MissingExtraError(VidkdError):
    """An optional package is not installed."""


def first_line(error: BaseException, *, leave_out: str | tuple[str, ...] = ()) -> str:
    """The first line with something in it of what a library's error says, shortened; the name of its type where it says nothing.

    leave_out: beginnings of lines that tell nothing.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(leave_out)]
    return (lines or [type(error).__name__])[0][:SHOWN]


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name most like `name`, or None if none is close. cutoff: least likeness, from 0 to 1 for the same name."""
    import difflib  # only where something is wrong

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def nearest_flag(flag: str, known: Iterable[str]) -> str | None:
    """The known flag most like `flag`, or None: --optim.lr for --lr and for --optim.lrr. Dashes are no likeness."""
    bare, names = flag.lstrip("-"), {name.lstrip("-"): name for name in known}
    ending = [name for name in names if name.rpartition(".")[2] == bare]
    close = ending[0] if len(ending) == 1 else nearest(bare, names)
    return None if close is None else names[close]


def unknown_name(kind: str, name: str, known: Iterable[str], **lines: object) -> ConfigError:
    """The error for a name that selects nothing: names the nearest one and lists the rest."""
    known = sorted(known)
    close = nearest(name, known)
    meant = {"did_you_mean": close} if close else {}
    return ConfigError(f"unknown {kind} '{name}'", **lines, **meant, known=", ".join(known))


def require(module: str, extra: str, *, package: str | None = None) -> ModuleType:
    """Import `module`; raises MissingExtraError naming the extra of vidkd that brings it.

    package: the single package that would do, for machines that have vidkd without torch, which an extra would bring.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            raise
        alone = "" if package is None else f"   (or pip install {package}, where vidkd is installed without torch)"
        missing = package or module.partition(".")[0]
        raise MissingExtraError(f"'{missing}' is not installed", hint=f"pip install {_requirement(extra)}{alone}") from error


def require_all(wanted: Iterable[tuple[str, str]]) -> None:
    """Import modules before work that needs them; raises one MissingExtraError that names all that are missing, and their extras.

    wanted: (module, extra) pairs.
    """
    missing: dict[str, str] = {}
    for module, extra in wanted:
        try:
            require(module, extra)
        except MissingExtraError:
            missing.setdefault(module.partition(".")[0], extra)
        except ModuleNotFoundError as error:  # it needs another one of these that is missing
            if (error.name or "").partition(".")[0] not in missing:
                raise
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        words = ", ".join(f"'{name}'" for name in missing)
        raise MissingExtraError(f"{words} {'is' if len(missing) == 1 else 'are'} not installed", hint=f"pip install {_requirement(extras)}")


def _requirement(extra: str) -> str:
    """What pip is asked for: vidkd by its name where it is installed, else the folder that it runs from, for no registry knows it."""
    import shlex
    from importlib import metadata

    try:
        metadata.distribution("vidkd")
    except metadata.PackageNotFoundError:
        return shlex.quote(f"{Path(__file__).resolve().parents[2]}[{extra}]")
    return f"'vidkd[{extra}]'"
