"""What a study says when some of its cells failed."""

from collections.abc import Callable, Mapping, Sequence

from vidkd.base.errors import DataError, VidkdError


class CellsFailedError(DataError):
    """Some cells failed, after all others have been tried.

    failures: why, by cell or lost teacher. waiting: cells that need one of those.
    """

    failures: Mapping[str, str] = {}
    waiting: tuple[str, ...] = ()

    @classmethod
    def of(cls, failures: Mapping[str, str], waiting: Sequence[str] = ()) -> "CellsFailedError":
        """The error for these; it shows the first whole, and of the others the first line."""
        first, *others = (f"{name}: {error}" for name, error in failures.items())
        lines = {"others": "; ".join(other.splitlines()[0] for other in others), "waiting_for_them": ", ".join(waiting)}
        mend = "run the same command again: finished cells are kept"
        error = cls(f"{len(failures)} cells failed", first=first, **{label: text for label, text in lines.items() if text}, hint=mend)
        error.failures, error.waiting = failures, tuple(waiting)
        return error


def reported(report: Callable[[], int], failed: CellsFailedError | None) -> int:
    """What the report of the finished cells returns. Raises what failed behind it, with a line more where there is no report either."""
    if failed is None:
        return report()
    try:
        report()
    except VidkdError as error:
        raise failed.with_lines(no_report=error.what) from error
    raise failed
