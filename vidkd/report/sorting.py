"""Tables that sort by a click on a column's head: the page's only script, named to the browser by its hash, so that no other may run."""

import base64
import hashlib

from vidkd.report.parts import Estimate, TableCell

SORT_SCRIPT = """
for (const button of document.querySelectorAll("table.sorts button")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = row => row.cells[head.cellIndex].dataset.value;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const difference = a - b;
      return turn * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
    };
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
  });
}
"""
"""Ascending at the first click, descending at the next; a cell without a value stays below."""


def script_source(script: str) -> str:
    """What a Content-Security-Policy calls an inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def sort_value(cell: TableCell) -> str:
    """What a cell is sorted by: a number as such, a text as it stands, nothing for nothing."""
    if cell is None:
        return ""
    return repr(float(cell.value if isinstance(cell, Estimate) else cell)) if not isinstance(cell, str) else cell
