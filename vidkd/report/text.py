"""Tables of a report as plain text for a terminal, and as Markdown."""

from collections.abc import Sequence

from vidkd.report.parts import Estimate, Table, TableCell, format_estimate, format_number


def table_text(table: Table) -> str:
    """A table as aligned columns, two spaces between them; a cell of None is a dash."""
    return aligned([table.columns, *(tuple(map(_cell, row)) for row in table.rows)])


def table_markdown(table: Table) -> str:
    """A table as Markdown."""
    rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *(tuple(map(_cell, row)) for row in table.rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _cell(cell: TableCell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Estimate):
        return " ".join(part for part in format_estimate(cell) if part)
    return cell if isinstance(cell, str) else format_number(cell)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines, every column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows) + "\n"
