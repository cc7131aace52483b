"""Which modules the first initramfs carries."""

from __future__ import annotations

from pathlib import Path

from scripts.image import initramfs
from scripts.image.boards import COLD_PLUG

VERSION = "6.1.0-1-arm64"
LIST = """\
kernel/drivers/mmc/host/sdhci-iproc.ko: kernel/drivers/mmc/host/sdhci.ko kernel/lib/helper.ko
kernel/drivers/mmc/host/sdhci.ko:
kernel/lib/helper.ko:
kernel/drivers/gpu/drm/big.ko: kernel/lib/helper.ko
kernel/drivers/mmcx/other.ko:
"""


def test_modules_of_a_folder_come_with_what_they_need(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules" / VERSION
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(LIST)
    found = initramfs.folder_modules(tmp_path, VERSION, ["drivers/mmc"])
    base = f"lib/modules/{VERSION}/kernel"
    assert sorted(found) == [
        f"{base}/drivers/mmc/host/sdhci-iproc.ko",
        f"{base}/drivers/mmc/host/sdhci.ko",
        f"{base}/lib/helper.ko",
    ]


def test_cards_disks_and_what_powers_them_are_covered() -> None:
    assert {"drivers/mmc", "drivers/nvme", "drivers/usb/storage", "drivers/regulator"} <= set(
        COLD_PLUG
    )
