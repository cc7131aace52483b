"""The checks of this box, in the order in which they are shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from agent.config import Config
from agent.doctor.box import Box
from agent.doctor.certificate import check_certificate
from agent.doctor.clock import check_clock
from agent.doctor.cpu import check_cpu
from agent.doctor.daemon import ASK_LIMIT_S, ask_port, find_daemon
from agent.doctor.disk import check_disk, space_of
from agent.doctor.gpu import PROBE_LIMIT_S, check_gpu
from agent.doctor.heat import check_heat, check_power
from agent.doctor.interpreter import Interpreter, check_python
from agent.doctor.lan import check_name
from agent.doctor.memory import check_memory
from agent.doctor.microphone import check_microphone
from agent.doctor.models import CHECK_LIMIT_S, CheckModels, check_in_child, check_models
from agent.doctor.packages import IMPORT_LIMIT_S, check_packages
from agent.doctor.ports import check_ports
from agent.doctor.report import Check, failure, ok
from agent.doctor.running import Once, Probe
from agent.doctor.runtime import check_runtime, check_telemetry, find_runtime
from agent.doctor.service import check_service
from agent.errors import ConfigProblem

CONFIGURATION = "configuration"
_MORE_S = 20.0
"""Beyond the limits of the child processes and sockets that a check waits for."""
_ASKS = 4
"""Questions to a listener that hangs: the bind, then two questions each on two addresses."""


def local_probes(
    config: Config,
    problems: Sequence[ConfigProblem] = (),
    *,
    source: str = "defaults",
    box: Box | None = None,
    verify: CheckModels | None = None,
) -> list[Probe]:
    """All checks of this box.

    `problems` are those of the configuration, which is then the default one; `source` says
    where it came from; `verify` checks the models (None: in a child process).
    """
    box = box or Box()
    runtime = Once(lambda: find_runtime(box))
    check = verify or check_in_child(box)
    models = Once(lambda: list(check(config)))
    ask = functools.cache(ask_port)  # two checks ask the same listeners
    daemon = Once(lambda: find_daemon(config, ask))
    asking_s = _MORE_S + _ASKS * ASK_LIMIT_S * (len(config.listen) + 1)

    def memory() -> list[Check]:
        agent = daemon.get()
        return check_memory(box, models.known(), agent.process_mb if agent else 0)

    return [
        Probe(CONFIGURATION, lambda: [check_configuration(problems, source)]),
        Probe("python", lambda: check_python(box, Interpreter.of_this_process())),
        Probe("packages", lambda: check_packages(box), 2 * IMPORT_LIMIT_S),
        Probe("onnxruntime", lambda: check_runtime(runtime), IMPORT_LIMIT_S + _MORE_S),
        Probe("telemetry", lambda: check_telemetry(box), IMPORT_LIMIT_S + _MORE_S),
        Probe("cpu", lambda: check_cpu(box)),
        Probe(
            "gpu",
            lambda: check_gpu(box, runtime, config.inference.provider),
            PROBE_LIMIT_S + _MORE_S,
        ),
        Probe("models", lambda: check_models(config, models.get), CHECK_LIMIT_S + _MORE_S),
        Probe("memory", memory, asking_s),
        Probe("ports", lambda: check_ports(config, ask=ask), asking_s),
        Probe("certificate", lambda: check_certificate(config, box)),
        Probe("microphone", lambda: check_microphone(box)),
        Probe(
            "disk",
            lambda: check_disk(config.state_dir, lambda folder: space_of(folder, box.statvfs)),
        ),
        Probe("clock", lambda: check_clock(box)),
        Probe("temperature", lambda: check_heat(box)),
        Probe("power", lambda: check_power(box)),
        Probe("name", lambda: check_name(config, box)),
        Probe("service", lambda: check_service(box)),
    ]


def check_configuration(problems: Sequence[ConfigProblem], source: str) -> Check:
    """One line, with every problem."""
    if not problems:
        return ok(CONFIGURATION, f"no problems ({source})")
    seen = "\n".join(map(str, problems))
    advice = "correct each of these; the lines below are about the default configuration"
    return failure(CONFIGURATION, seen, advice)
