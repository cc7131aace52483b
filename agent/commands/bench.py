"""`funasr-agent bench`: how fast the models of this box are, in figures that can be compared."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from agent.assembly import engine_settings, model_store
from agent.bench.plan import Measured, RunWorker, run_all, subjects
from agent.bench.report import report, usable_cores
from agent.bench.show import heading, problems, table
from agent.commands.common import FAILED, FINE, complain, config_from
from agent.config import Config
from agent.doctor.box import Box
from agent.doctor.daemon import ask_port, find_daemon

BUDGET_S, QUICK_S = 45.0, 8.0
"""Time for the work that is timed; loading comes on top."""


def bench(
    args: argparse.Namespace,
    *,
    box: Box | None = None,
    run: RunWorker | None = None,
    runs_already: Callable[[Config], bool] | None = None,
) -> int:
    """Measure, print a table or JSON, write the report; 1 when something could not be measured.

    `args` has `model`, `quick`, `json`, `report` and the configuration's arguments. Raises
    AgentError, OSError.
    """
    config = config_from(args)
    daemon = (runs_already or _runs_already)(config)
    if daemon:
        complain(
            "warning: an agent runs on this box: its work and this measurement slow each other"
        )
    store = model_store(config)
    engine = engine_settings(config)
    cores = usable_cores()
    planned = subjects(store, sorted({1, cores}), model=args.model or "")
    budget_s = QUICK_S if args.quick else BUDGET_S
    results: list[Measured] = []
    for result in run_all(planned, engine, config.state_dir / "derived", budget_s, run=run):
        results.append(result)
        if problem := problems([result]):
            complain(problem[0])
    settings = {
        "budget_s": budget_s,
        "inference": config.inference.model_dump(mode="json"),
    }
    told = report(results, settings, box or Box(), datetime.now(timezone.utc), daemon=daemon)
    text = json.dumps(told, ensure_ascii=False, indent=2)
    if args.report is not None:
        Path(args.report).write_text(text + "\n", encoding="utf-8")
    if args.json:
        print(text)
    else:
        print(heading(told), *table(results), sep="\n")
    return FAILED if problems(results) else FINE


def _runs_already(config: Config) -> bool:
    return find_daemon(config, ask_port) is not None
