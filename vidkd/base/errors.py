"""Errors that say what is wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class VidkdError(Exception):
    """An error meant for the user: one line of what, then labelled lines of where and how to mend it.

    Keyword arguments become the labelled lines, in the order given, underscores as spaces:
    ``DataError("data set 'x' not found", looked_in="/data/x", to_mend="...")``.
    """

    def __init__(self, what: str, /, **lines: object) -> None:
        self.what = what
        self.lines = {label.replace("_", " "): str(text) for label, text in lines.items()}
        super().__init__(self._text())

    def _text(self) -> str:
        width = max((len(label) for label in self.lines), default=0)
        return "\n".join([self.what, *(f"  {label:<{width}} : {text}" for label, text in self.lines.items())])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the labelled lines, so that an error of a worker process arrives whole."""
        return (_rebuild, (type(self), self.what, self.lines))


def _rebuild(kind: type[VidkdError], what: str, lines: dict[str, str]) -> VidkdError:
    return kind(what, **{label.replace(" ", "_"): text for label, text in lines.items()})


class ConfigError(VidkdError):
    """A configuration that cannot be used: unknown key, wrong value, parts that do not fit."""


class DataError(VidkdError):
    """A data set, manifest or clip that is missing or not as declared."""


class VideoError(VidkdError):
    """A video file that cannot be opened, read or written."""


class CheckpointError(VidkdError):
    """A checkpoint that is missing, damaged or of another model."""


class MissingExtraError(VidkdError):
    """An optional package is not installed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str], **lines: object) -> ConfigError:
    """The error for a name that selects nothing: names the nearest one and lists the rest."""
    known = sorted(known)
    close = nearest(name, known)
    meant = {"did_you_mean": close} if close else {}
    return ConfigError(f"unknown {kind} '{name}'", **lines, **meant, known=", ".join(known))
