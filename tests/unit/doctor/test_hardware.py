"""Processor, GPU and memory: boxes made of files, each with its fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.doctor.box import Outcome
from agent.doctor.cpu import check_cpu
from agent.doctor.gpu import check_gpu
from agent.doctor.memory import check_memory
from agent.doctor.running import Once
from agent.doctor.runtime import RuntimeFacts
from agent.store.checkup import ModelCheckup
from tests.unit.doctor.boxes import answering, box_of, line

# Processor.


def row(role: str, ref: str, serves: bool, *words: str, **more: object) -> ModelCheckup:
    """A checked model, pinned unless the test says otherwise."""
    return ModelCheckup(role, ref, serves, *words, **{"pinned": True, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [
        ("model name : Core\nflags : fpu avx2 avx_vnni\n", "AVX-VNNI"),
        ("model name : Xeon\nflags : avx512f avx512_vnni amx_int8\n", "AVX-512 VNNI, AMX int8"),
        ("processor : 0\nFeatures : fp asimd asimddp i8mm\n\nFeatures : fp\n", "asimddp, i8mm"),
    ],
)
def test_a_processor_with_dot_products_makes_int8_pay(
    tmp_path: Path, cpuinfo: str, words: str
) -> None:
    status, seen, _ = line(check_cpu(box_of(tmp_path, {"proc/cpuinfo": cpuinfo})))
    assert status == "ok"
    assert f"int8 pays: {words}" in seen


@pytest.mark.parametrize("flags", ["flags : fpu sse4_2 avx2", "Features : fp asimd evtstrm crc32"])
def test_a_processor_without_dot_products_is_told(tmp_path: Path, flags: str) -> None:
    box = box_of(tmp_path, {"proc/cpuinfo": flags, "proc/device-tree/model": "Raspberry Pi 4\0"})
    status, seen, advice = line(check_cpu(box))
    assert status == "warning"
    assert "int8 gains little on this CPU" in seen
    assert "funasr-agent bench" in advice


def test_a_processor_that_tells_nothing_is_a_warning(tmp_path: Path) -> None:
    assert line(check_cpu(box_of(tmp_path)))[0] == "warning"


# GPU.

DRIVER = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
    "550.54.15  Release Build\nGCC version:  gcc 12.2.0\n",
    "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA RTX A2000\nIRQ: 1\n",
}
ORIN = {
    "dev/nvmap": "",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n",
}
CPU_BUILD = RuntimeFacts("1.20.1", ("CPUExecutionProvider",))
GPU_BUILD = RuntimeFacts("1.20.1", ("CUDAExecutionProvider", "CPUExecutionProvider"))
BROKEN = RuntimeFacts(problem="it can't be imported: no libgomp")


def probed(**fields: object) -> Mapping[str, Outcome]:
    return {"probe_provider": Outcome(0, stdout="answer " + json.dumps(fields))}


def gpu_line(
    root: Path,
    files: Mapping[str, str],
    facts: RuntimeFacts,
    wanted: str = "auto",
    answers: Mapping[str, Outcome] | None = None,
) -> tuple[str, str, str]:
    box = answering(box_of(root, files), answers or {})
    return line(check_gpu(box, Once(lambda: facts), wanted))  # type: ignore[arg-type]


def test_without_a_gpu_models_run_on_the_cpu(tmp_path: Path) -> None:
    found = gpu_line(tmp_path, {}, CPU_BUILD)
    assert found == ("ok", "no NVIDIA GPU; models run on the CPU", "")
    assert gpu_line(tmp_path, {}, CPU_BUILD, "cuda")[0] == "failure"


@pytest.mark.parametrize(
    ("files", "words"),
    [(DRIVER, "NVIDIA RTX A2000, driver 550.54.15"), (ORIN, "Jetson Orin Nano, L4T 36.4.0")],
)
def test_an_idle_gpu_is_told_with_the_command_that_wakes_it(
    tmp_path: Path, files: Mapping[str, str], words: str
) -> None:
    status, seen, advice = gpu_line(tmp_path, files, CPU_BUILD)
    assert status == "warning"
    assert words in seen
    assert "a GPU is idle" in seen
    assert "funasr-agent gpu install --index-url URL (or --wheel FILE)" in advice
    assert gpu_line(tmp_path, files, CPU_BUILD, "cuda")[0] == "failure"


def test_a_gpu_that_runs_a_graph_is_fine(tmp_path: Path) -> None:
    status, seen, _ = gpu_line(tmp_path, DRIVER, GPU_BUILD, "auto", probed(works=True, reason=""))
    assert (status, "ran a graph on CUDA" in seen) == ("ok", True)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (probed(works=False, reason="libcudnn.so.9 can't be loaded"), "libcudnn.so.9"),
        ({"probe_provider": Outcome(-6, stderr="terminate called\n")}, "(SIGABRT): terminate"),
        ({"probe_provider": Outcome(None, timed_out=True)}, "the trial does not end"),
    ],
)
def test_a_provider_that_is_listed_but_fails_is_told(
    tmp_path: Path, outcome: Mapping[str, Outcome], words: str
) -> None:
    status, seen, advice = gpu_line(tmp_path, DRIVER, GPU_BUILD, "auto", outcome)
    assert status == "warning"
    assert "CUDA is listed but does not run" in seen
    assert words in seen
    assert "gpu install" in advice
    assert gpu_line(tmp_path, DRIVER, GPU_BUILD, "cuda", outcome)[0] == "failure"


def test_a_gpu_is_not_tried_when_it_is_not_wanted_or_the_runtime_is_broken(tmp_path: Path) -> None:
    status, seen, _ = gpu_line(tmp_path, DRIVER, GPU_BUILD, "cpu")
    assert (status, "inference.provider is cpu" in seen) == ("ok", True)
    status, seen, _ = gpu_line(tmp_path, DRIVER, BROKEN)
    assert (status, "not tried" in seen) == ("warning", True)


def test_a_card_without_a_driver_is_told(tmp_path: Path) -> None:
    card = "sys/bus/pci/devices/0000:01:00.0"
    files = {f"{card}/vendor": "0x10de\n", f"{card}/class": "0x030000\n"}
    status, seen, advice = gpu_line(tmp_path, files, CPU_BUILD)
    assert (status, "no driver is loaded" in seen) == ("warning", True)
    assert "driver" in advice


# Memory.


def meminfo(total_mb: int, available_mb: int) -> str:
    fields = {"MemTotal": total_mb, "MemFree": 1, "MemAvailable": available_mb}
    return "".join(f"{name}:  {value * 1024} kB\n" for name, value in fields.items())


ROWS = [
    row("vad", "a", False, message="no", memory_mb=9000),
    row("vad", "b", True, memory_mb=100),
    row("asr_offline", "c", True, memory_mb=700),
]


@pytest.mark.parametrize(
    ("total", "available", "daemon", "status"),
    [
        (4000, 3000, 0, "ok"),
        (4000, 900, 0, "warning"),
        (4000, 400, 700, "ok"),
        (800, 700, 0, "failure"),
    ],
)
def test_memory_is_held_against_what_the_models_need(
    tmp_path: Path, total: int, available: int, daemon: int, status: str
) -> None:
    box = box_of(tmp_path, {"proc/meminfo": meminfo(total, available)})
    found = line(check_memory(box, ROWS, daemon))
    assert found[0] == status
    assert "need about 1000 MB" in found[1]
    assert bool(found[2]) == (status != "ok")


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/user.slice/a.scope\n", "sys/fs/cgroup/user.slice/memory.max"),
        ("4:memory:/docker/a\n0::/\n", "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes"),
        ("0::/\n", "sys/fs/cgroup/system.slice/funasr-agent.service/memory.max"),
    ],
)
def test_a_limit_of_the_control_group_counts(tmp_path: Path, cgroup: str, file: str) -> None:
    files = {"proc/meminfo": meminfo(8000, 7000), "proc/self/cgroup": cgroup}
    free = box_of(tmp_path / "free", {**files, file: "max\n"})
    assert line(check_memory(free, ROWS, 0))[0] == "ok"
    tight = box_of(tmp_path / "tight", {**files, file: f"{500 << 20}\n"})
    status, seen, advice = line(check_memory(tight, ROWS, 0))
    assert status == "failure"
    assert "limited to 500 MB" in seen
    assert "MemoryMax" in advice


def test_unknown_models_leave_memory_unjudged(tmp_path: Path) -> None:
    box = box_of(tmp_path, {"proc/meminfo": meminfo(500, 100)})
    status, seen, _ = line(check_memory(box, None, 0))
    assert (status, "not known" in seen) == ("ok", True)
    assert line(check_memory(box_of(tmp_path / "none"), None, 0))[0] == "warning"


SHARED = {"dev/nvmap": ""}


def on_gpu(memory_mb: int, gpu_mb: int) -> ModelCheckup:
    return row("asr_offline", "c", True, provider="cuda", memory_mb=memory_mb, gpu_mb=gpu_mb)


def test_memory_that_the_gpu_shares_is_said_and_counted_once(tmp_path: Path) -> None:
    text = meminfo(7600, 3000) + f"NvMapMemUsed: {900 * 1024} kB\n"
    box = box_of(tmp_path, {"proc/meminfo": text, **SHARED})
    status, seen, _ = line(check_memory(box, [on_gpu(1200, 900)], 0))
    assert status == "ok"
    assert "3000 MB of 7600 MB available, shared with the GPU, which holds 900 MB of it" in seen
    assert "models and agent need about 1400 MB, 900 MB of it on the GPU" in seen


def test_what_the_running_agent_holds_on_the_gpu_is_its_own(tmp_path: Path) -> None:
    """It is in no program's resident memory."""
    text = meminfo(4000, 500) + f"NvMapMemUsed: {900 * 1024} kB\n"
    box = box_of(tmp_path, {"proc/meminfo": text, **SHARED})
    assert line(check_memory(box, [on_gpu(1200, 900)], 300))[0] == "ok"
    assert line(check_memory(box, [on_gpu(1200, 900)], 0))[0] == "warning"


def test_a_control_group_does_not_count_the_gpus_part(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": meminfo(8000, 7000),
        "proc/self/cgroup": "0::/a\n",
        "sys/fs/cgroup/a/memory.max": f"{600 << 20}\n",
        **SHARED,
    }
    box = box_of(tmp_path, files)
    assert line(check_memory(box, [on_gpu(1200, 900)], 0))[0] == "ok"
    assert line(check_memory(box, [on_gpu(1200, 0)], 0))[0] == "failure"
