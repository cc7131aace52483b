"""One memory for CPU and GPU is counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store.box_memory import gpu_held_mb, read_memory, shares_memory
from agent.store.choices import Attempt, ProviderChoice
from agent.store.trial import TrialResult

MEMINFO = "MemTotal:       8000000 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n"


def put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_card_of_its_own_memory_is_not_a_part_of_the_boxs(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", MEMINFO + "NvMapMemUsed: 2048 kB\n")
    put(tmp_path, "dev/nvidia0")
    memory = read_memory(tmp_path)
    assert memory is not None
    assert (memory.total_mb, memory.available_mb) == (7812, 4096)
    assert (memory.shared, memory.gpu_mb, gpu_held_mb(tmp_path)) == (False, None, 0)


@pytest.mark.parametrize("sign", ["dev/nvmap", "etc/nv_tegra_release"])
def test_a_jetson_shares_its_memory(tmp_path: Path, sign: str) -> None:
    put(tmp_path, sign)
    put(tmp_path, "proc/meminfo", MEMINFO + "NvMapMemUsed:    1048576 kB\n")
    memory = read_memory(tmp_path)
    assert memory is not None
    assert (memory.shared, memory.gpu_mb) == (True, 1024)
    # What the GPU holds is gone from MemAvailable already.
    assert memory.available_mb == 4096


def test_a_thor_is_known_by_its_device_tree(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/compatible", "nvidia,p3834-0008\0nvidia,tegra264\0")
    assert shares_memory(tmp_path)
    put(tmp_path, "proc/meminfo", MEMINFO)
    memory = read_memory(tmp_path)
    assert memory is not None
    assert (memory.shared, memory.gpu_mb) == (True, None)


def test_the_kernels_list_of_clients_is_read_where_it_may_be(tmp_path: Path) -> None:
    put(tmp_path, "dev/nvmap")
    put(tmp_path, "proc/meminfo", MEMINFO)
    listed = "CLIENT  PROCESS  PID  SIZE\nuser  gnome-shell  2007  26912K\ntotal   307200K\n"
    put(tmp_path, "sys/kernel/debug/nvmap/iovmm/clients", listed)
    assert gpu_held_mb(tmp_path) == 300


def test_a_box_without_proc_is_not_known(tmp_path: Path) -> None:
    assert read_memory(tmp_path) is None
    assert not shares_memory(tmp_path)


@pytest.mark.parametrize(
    ("provider", "resident", "on_gpu", "needs"),
    [("cuda", 300.0, 900.0, 1200), ("cuda", 100.0, 200.0, 800), ("cpu", 2000.0, 0.0, 800)],
)
def test_weights_on_the_gpu_are_not_added_to_what_the_manifest_says(
    provider: str, resident: float, on_gpu: float, needs: int
) -> None:
    result = TrialResult(golden_s=0.1, audio_s=1, memory_mb=resident, gpu_mb=on_gpu)
    attempt = Attempt("fp16", provider, "", result)
    choice = ProviderChoice("fp16", provider, "", (), (attempt,), {}, "now")
    assert choice.need_mb(800) == needs
