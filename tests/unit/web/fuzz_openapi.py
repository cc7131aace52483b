"""python fuzz_openapi.py URL EXAMPLES REPORT: requests made up by schemathesis from /openapi.json.

Writes how many were sent to which operations, and each that was answered with a 5xx.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable


def sender(label: str, sent: dict[str, int], errors: list[str]) -> Callable[..., None]:
    """Sends a made-up request of one operation, and notes what came of it."""

    def send(case: Any) -> None:
        answer = case.call()
        sent[label] = sent.get(label, 0) + 1
        if answer.status_code >= 500:
            errors.append(f"{label}: {answer.status_code} {answer.text[:300]}")

    return send


def main(url: str, examples: int, report: Path) -> None:
    schema = schemathesis.openapi.from_url(url + "/openapi.json")
    errors: list[str] = []
    sent: dict[str, int] = {}
    how = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for result in schema.get_all_operations():
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            with contextlib.suppress(Unsatisfiable):  # it has nothing to get wrong
                cases = result.ok().as_strategy(generation_mode=mode)
                how(given(case=cases)(sender(result.ok().label, sent, errors)))()
    found = {"requests": sum(sent.values()), "operations": sent, "errors": errors}
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
