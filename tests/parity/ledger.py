"""What the comparisons found, as the table of docs/parity.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.parity.clips import Clip, seconds


class Verdict(str, Enum):
    """How a comparison ended."""

    EQUAL = "equal"
    EXPLAINED = "differs as said"
    """It differs, in this and nothing else: the sentence beside it says in what."""
    DIFFERENT = "**different**"


@dataclass(frozen=True)
class Row:
    """One comparison."""

    part: str
    what: str
    against: str
    amount: str
    """How much audio or text."""
    largest: str
    """The largest difference of numbers, or how many items differ of how many."""
    verdict: Verdict
    remark: str = ""


@dataclass
class Ledger:
    """Rows in the order in which the tests run, which is always the same."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        part: str,
        what: str,
        against: str,
        amount: str,
        largest: str,
        verdict: Verdict | bool,
        remark: str = "",
    ) -> None:
        """Write a row; a plain bool is equal or different."""
        if isinstance(verdict, bool):
            verdict = Verdict.EQUAL if verdict else Verdict.DIFFERENT
        self.rows.append(Row(part, what, against, amount, largest, verdict, remark))

    def different(self, since: int) -> list[str]:
        """What nothing explains, of the rows from number `since` on."""
        return [
            f"{row.part}, {row.what}, against {row.against}: {row.largest}"
            for row in self.rows[since:]
            if row.verdict is Verdict.DIFFERENT
        ]

    def lines(self) -> list[str]:
        """For a terminal."""
        return [
            f"{row.verdict.value:15} {row.part}: {row.what} | {row.against} | {row.amount} | "
            f"{row.largest}" + (f" | {row.remark}" if row.remark else "")
            for row in self.rows
        ]

    def write(self, path: Path, facts: Mapping[str, str], models: Sequence[str]) -> None:
        """Write the document."""
        path.write_text("\n".join([*_HEAD, *self._table(), *_facts(facts, models)]) + "\n", "utf-8")

    def _table(self) -> list[str]:
        lines: list[str] = []
        part = ""
        for row in self.rows:
            if row.part != part:
                part = row.part
                lines += ["", f"## {part}", "", *_COLUMNS]
            cells = (row.what, row.against, row.amount, row.largest, row.verdict.value, row.remark)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return lines


def verdict(same: bool, exceptions: int) -> Verdict:
    """Of what is the same but for exceptions that are counted and explained."""
    if not same:
        return Verdict.DIFFERENT
    return Verdict.EXPLAINED if exceptions else Verdict.EQUAL


def amount(clips: Sequence[Clip]) -> str:
    """How much audio, for a cell."""
    total = seconds(clips)
    length = f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min"
    return f"{length}, {len(clips)} clips"


_COLUMNS = (
    "| what | against | on | largest difference | | the difference in a sentence |",
    "|---|---|---|---|---|---|",
)
_HEAD = (
    "# Parity with FunASR",
    "",
    "Written by `scripts/parity`; do not edit. The agent's own code and FunASR's read the same "
    "audio with the same weights.",
    "`torch` is `funasr` on the checkpoint, `funasr_onnx` FunASR's own ONNX Runtime package on the "
    "exported files.",
    "Recognisers and punctuation models are FunASR's own architectures with seeded random weights, "
    "scaled so that they read varied tokens; their sizes stand at the end.",
    "A margin is the distance of the best two log-probabilities of a token: differences of numbers "
    "below half of it can't change the token.",
)


def _facts(facts: Mapping[str, str], models: Sequence[str]) -> list[str]:
    return [
        "",
        "## The run",
        "",
        *(f"* {name}: {value}" for name, value in facts.items()),
        f"* models: {'; '.join(models)}",
    ]
