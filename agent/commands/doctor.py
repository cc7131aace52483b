"""`funasr-agent doctor`: the pre-flight check of this box, or of another one (`--url`)."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence

from agent.commands.common import FAILED, FINE, USAGE, complain, config_file, config_from
from agent.config import Config
from agent.config_loader import ENV_PREFIX
from agent.doctor.box import Box
from agent.doctor.local import CONFIGURATION, local_probes
from agent.doctor.models import CheckModels
from agent.doctor.report import Check, Report, Status, warning
from agent.doctor.running import run_probe
from agent.doctor.show import Screen, clean
from agent.errors import AgentError, ConfigError, ConfigProblem

Tell = Callable[[Check], None]


def doctor(
    args: argparse.Namespace, *, box: Box | None = None, verify: CheckModels | None = None
) -> int:
    """Run every check; 1 when one of them is a failure, 2 for a URL that is none.

    `args` has `json`, `url`, `token` and the configuration's arguments.
    """
    problems: tuple[ConfigProblem, ...] = ()
    try:
        config = config_from(args)
    except ConfigError as error:
        config, problems = Config(), tuple(error.problems)
    screen = None if args.json else Screen()
    lines: list[Check] = []

    def tell(line: Check) -> None:
        lines.append(line)
        if screen is not None:
            screen.show(line)

    if args.url is not None:
        usage = _check_other(args, config, problems, tell)
        if usage:
            complain(usage)
            return USAGE
    else:
        source = _source(args)
        for probe in local_probes(config, problems, source=source, box=box, verify=verify):
            for line in run_probe(probe):
                tell(line)
    report = Report(tuple(lines))
    if screen is not None:
        screen.sum_up(report)
    else:
        print(clean(json.dumps(report.to_json(), ensure_ascii=False)))
    return FAILED if report.status is Status.FAILURE else FINE


def _check_other(
    args: argparse.Namespace, config: Config, problems: Sequence[ConfigProblem], tell: Tell
) -> str:
    """Check the box at `--url`; what is wrong with the URL, empty when nothing is."""
    # Imported here: the other checks need no client.
    from agent.doctor.clip import Clip, load_clip
    from agent.doctor.remote import RemoteCheck, parse_target

    try:
        target = parse_target(args.url)
    except ValueError as error:
        return f"--url {args.url}: {error}; write it as https://box.local:8443"
    if problems:
        seen = "that of this machine has problems, defaults are used here"
        tell(warning(CONFIGURATION, seen, "funasr-agent config check lists them"))
    clip: Clip | None = None
    try:
        clip = load_clip(config.models.dir)
    except (AgentError, OSError, ValueError):
        clip = None  # told by the line of the clip, when it is its turn
    RemoteCheck(target, clip, getattr(args, "token", None)).run(tell)
    return ""


def _source(args: argparse.Namespace) -> str:
    file = config_file(args)
    variables = [name for name in os.environ if name.startswith(ENV_PREFIX)]
    more = [
        *([f"{len(variables)} variables"] if variables else []),
        *["--set"] * bool(args.settings),
    ]
    return ", ".join(["defaults", *([str(file)] if file else []), *more])
