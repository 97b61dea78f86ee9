"""Tables of a report as plain text, for a terminal."""

from vidkd.report.parts import Estimate, Table, TableCell, format_estimate, format_number


def table_text(table: Table) -> str:
    """A table as aligned columns, two spaces between them; a cell of None is a dash."""
    rows = [table.columns, *(tuple(map(_cell, row)) for row in table.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
    return "".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)


def _cell(cell: TableCell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Estimate):
        return " ".join(part for part in format_estimate(cell) if part)
    return cell if isinstance(cell, str) else format_number(cell)
