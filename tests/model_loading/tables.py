"""Tables that a test run prints at its end."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, ...]
TABLES: dict[str, list[Row]] = {}
"""Title -> rows, in the order in which the tests added them."""


def add_row(title: str, row: Row) -> None:
    """Add a row to a table."""
    TABLES.setdefault(title, []).append(row)


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows in aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
