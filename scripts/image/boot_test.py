"""`scripts/test-image`: boots the UEFI image in QEMU and tries what its owner relies on."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from scripts.image.appliance import ADMIN, SETTINGS_FILE
from scripts.image.boards import BOARDS, MIB
from scripts.image.commands import run
from scripts.image.cut_bundle import CUT_ID, PADDING_BYTES, make_bundle
from scripts.image.machine import Machine
from scripts.image.visit import Failed, Page, Shell, photograph, until

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "tests/data/clips"
BOOT_LIMIT_S = 900
"""For everything that takes a minute on an idle machine."""
_TOKEN = "token-of-the-boot-test"
_CUTS = ("while its bytes arrive", "while it is verified")


class Trial:
    """The steps, in order; each is told with its time."""

    def __init__(self, image: Path, work: Path, picture: Path | None) -> None:
        self._work, self._picture = work, picture
        self._started = time.monotonic()
        self._disk, self._key = work / "disk.img", work / "key"
        self._log = (work / "test-image.log").open("w", encoding="utf-8")
        self.say(f"{image.name}, {image.stat().st_size / 1e6:.0f} MB")
        run(["cp", "--sparse=always", str(image), str(self._disk)])
        run(["truncate", "-s", "+1G", str(self._disk)])
        self._put_settings()
        self._machine = Machine(self._disk, work, (22, 80, 443, 10095, 10096))
        ports = self._machine.ports
        self._page = Page(ports[443], tls=True, token=_TOKEN)
        self._plain = Page(ports[80], tls=False, token=_TOKEN)
        self._stranger = Page(ports[443], tls=True, token="wrong")
        self._shell = Shell(ports[22], self._key, ADMIN)

    def say(self, text: str) -> None:
        """A line of the log."""
        line = f"[{time.monotonic() - self._started:6.1f} s] {text}"
        print(line, flush=True)
        print(line, file=self._log, flush=True)

    def run(self, *, cuts: bool = True) -> None:
        """All steps, or those without the power cuts of an installation. Raises Failed; the board
        is off afterwards."""
        try:
            self._first_boot()
            self._settings_and_growth()
            self._serves()
            self._start_and_kill()
            self._boot_files()
            if cuts:
                bundle = make_bundle(ROOT / "models/builtin-offline", self._work)
                for when in _CUTS:
                    self._cut(bundle, when)
                self._install(bundle)
            self._read_only()
            self._clean_end()
        finally:
            self._machine.power_cut()

    def _put_settings(self) -> None:
        self._key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)])
        public = self._key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        self._settings(
            f"hostname = test-box\nssh_key = {public}\ntoken = {_TOKEN}\nwifi_pasword = secret\n"
        )

    def _settings(self, text: str) -> None:
        path = self._work / SETTINGS_FILE
        path.write_text(text, encoding="utf-8")
        run(["mcopy", "-o", "-i", f"{self._disk}@@{MIB}", str(path), "::"])

    def _boot(self, what: str) -> None:
        started = time.monotonic()
        self._machine.power_on()
        up = until("/livez", lambda: self._page.get("/livez")[0] == 200, BOOT_LIMIT_S)
        until("/readyz", self._page.ready, BOOT_LIMIT_S)
        ready = time.monotonic() - started
        self.say(f"{what}: power-on to the first answer {up:.0f} s, to ready {ready:.0f} s")

    def _first_boot(self) -> None:
        self._boot("first boot")
        until("SSH", self._shell.answers, BOOT_LIMIT_S)
        state = self._shell.run("systemctl is-system-running --wait || true")
        failed = self._shell.run("systemctl --failed --no-legend --plain")
        need(state == "running", f"the system is {state}, failed units: {failed}")
        self.say("the system is running, no unit has failed")
        self.say(self._shell.run("systemd-analyze | head -1"))

    def _settings_and_growth(self) -> None:
        console = self._machine.console.read_text(encoding="utf-8", errors="replace")
        need("https://test-box.local" in console, "the console does not show the box's address")
        need("wifi_password?" in console, "the console does not tell of the bad setting")
        journal = self._shell.run("sudo journalctl -b -u funasr-image-settings -o cat --no-pager")
        need("did you mean wifi_password?" in journal, f"the journal does not tell: {journal}")
        self.say(
            "console: https://test-box.local; the misspelt setting is told there and in the journal"
        )
        # The root is at least as large as what was added to the disk.
        size = int(self._shell.run("df --output=size -B1 / | tail -1"))
        need(size > 2 * 1024 * MIB, f"the root has {size} bytes only, it did not grow")
        ids = self._shell.run("cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub")
        need(len(ids.splitlines()) == 2, "no machine id or no host key")
        self.say(f"the root grew to {size / 1e9:.1f} GB; machine id and host keys were made")
        told = self._shell.run("sudo journalctl -b -u avahi-daemon -o cat --no-pager")
        need("FunASR agent on test-box" in told, f"mDNS: the service is not announced: {told}")

    def _serves(self) -> None:
        status, text = self._page.get("/")
        need(status == 200 and "<html" in text.lower(), f"GET / gives {status}")
        need(self._plain.get("/livez")[0] == 200, "port 80 does not answer")
        need(self._stranger.get("/")[0] == 401, "the page is served with a wrong token")
        health = self._page.health()
        need(health["status"] == "ok", f"/health: {health}")
        self.say("page (443, 80) and /health answer; status ok")
        self._recognise("zh-1.wav")
        self._recognise("en-1.wav")
        if self._picture is not None:
            shown = photograph(self._page, CLIPS / "en-2.wav", self._picture, BOOT_LIMIT_S)
            need(shown == expected("en-2.wav"), f"the page shows {shown!r}")
            size = self._picture.stat().st_size
            self.say(f"page in Chromium: en-2.wav uploaded, shows {shown!r}; picture {size} bytes")

    def _recognise(self, name: str) -> None:
        started = time.monotonic()
        text = self._page.transcribe(CLIPS / name)
        need(text == expected(name), f"{name}: {text!r} instead of {expected(name)!r}")
        self.say(f"{name}: {text!r} in {time.monotonic() - started:.1f} s")

    def _start_and_kill(self) -> None:
        self._shell.run("sudo systemctl stop funasr-agent")
        started = time.monotonic()
        self._shell.run("sudo systemctl start funasr-agent", BOOT_LIMIT_S)
        took = time.monotonic() - started
        state = self._shell.run("systemctl show -P ActiveState -P SubState funasr-agent")
        need(state.split() == ["active", "running"], f"after start it is {state}")
        until("/readyz after start", self._page.ready, BOOT_LIMIT_S)
        self.say(f"systemctl start funasr-agent came back READY after {took:.0f} s")
        before = self._shell.run("systemctl show -P MainPID funasr-agent")
        self._shell.run("sudo systemctl kill --signal=KILL funasr-agent")
        started = time.monotonic()
        # At once after the kill a last answer may still be on its way.
        time.sleep(1)
        until("/readyz after SIGKILL", self._page.ready, BOOT_LIMIT_S)
        took = time.monotonic() - started
        after = self._shell.run("systemctl show -P MainPID funasr-agent")
        need(before != after, f"the process is still {before}")
        self.say(
            f"killed (SIGKILL): back and ready after {took:.0f} s, process {before} -> {after}"
        )

    def _boot_files(self) -> None:
        """What the hooks of kernel and initramfs updates call."""
        boot = BOARDS["uefi-arm64"].boot_mount
        self._shell.run(
            f"set -e; v=$(uname -r); sudo rm {boot}/funasr/initrd\n"
            "sudo /usr/lib/funasr-image/boot-files $v\n"
            f"sudo cmp /boot/initrd.img-$v {boot}/funasr/initrd\n"
            f"sudo cmp /boot/vmlinuz-$v {boot}/funasr/linux"
        )
        self.say("kernel and initramfs were copied to the boot partition, as after an update")

    def _cut(self, bundle: Path, when: str) -> None:
        sending = self._shell.start("sudo funasr-agent models install -", bundle)
        if when == _CUTS[0]:
            until("the model's first bytes", self._staged, BOOT_LIMIT_S)
        else:
            until("the model's last bytes", lambda: self._staged(PADDING_BYTES), BOOT_LIMIT_S)
        need(sending.poll() is None, "the installation had ended before the power cut")
        self._machine.power_cut()
        sending.kill()
        sending.wait()
        self.say(f"power cut {when} (installation of a model at work)")
        self._boot("after the power cut")
        listed = self._shell.run("sudo funasr-agent models list")
        need(CUT_ID not in listed, f"half a model is listed:\n{listed}")
        left = self._shell.run(f"sudo find /var/lib/funasr-agent -name '*{CUT_ID}*' | head")
        self.say(f"no half model is listed; left in the state folder: {left or 'nothing'}")
        failed = self._shell.run("systemctl --failed --no-legend --plain")
        need(not failed, f"failed units: {failed}")
        self._recognise("zh-2.wav")

    def _staged(self, size: int = 1) -> bool:
        """Whether that many bytes of the model that is being installed lie on the board."""
        listed = self._shell.run(
            "sudo find /var/lib/funasr-agent -path '*/.staging-*' -type f -printf '%s\\n' || true"
        )
        return sum(int(line) for line in listed.split()) >= size

    def _install(self, bundle: Path) -> None:
        started = time.monotonic()
        sending = self._shell.start("sudo funasr-agent models install -", bundle)
        need(sending.wait(BOOT_LIMIT_S) == 0, f"models install ends with {sending.returncode}")
        listed = self._shell.run("sudo funasr-agent models list")
        need(CUT_ID in listed, f"the model is not listed:\n{listed}")
        rest = self._shell.run("sudo find /var/lib/funasr-agent -name '.staging-*'")
        need(not rest, f"left of the cut installations: {rest}")
        took = time.monotonic() - started
        self.say(f"the same model, not cut: installed in {took:.0f} s; the rests are gone")

    def _read_only(self) -> None:
        public = self._key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        text = f"hostname = test-box\nssh_key = {public}\nread_only = yes\n"
        boot = BOARDS["uefi-arm64"].boot_mount
        self._shell.run(f"printf '%s' '{text}' | sudo tee {boot}/{SETTINGS_FILE} >/dev/null; sync")
        self._shell.run("sudo systemctl poweroff || true")
        self._machine.wait_off(BOOT_LIMIT_S)
        self._boot("read_only = yes, second start")
        kind = self._shell.run("findmnt --noheadings --output FSTYPE /")
        need(kind == "overlay", f"the root is {kind}, not an overlay")
        self._shell.run(
            "echo lost | sudo tee /etc/lost /var/lib/funasr-agent/kept >/dev/null; sync"
        )
        self._machine.power_cut()
        self._boot("read-only root, after a power cut")
        kept = self._shell.run("sudo ls /var/lib/funasr-agent; ls /etc/lost 2>/dev/null || true")
        need("kept" in kept and "/etc/lost" not in kept, f"after the cut there are: {kept}")
        self.say("read-only root: the system forgets, the agent's state stays")

    def _clean_end(self) -> None:
        self._shell.run("sudo systemctl poweroff || true")
        started = time.monotonic()
        self._machine.wait_off(BOOT_LIMIT_S)
        self.say(f"switched off in {time.monotonic() - started:.0f} s")
        table = run(["sfdisk", "--dump", str(self._disk)])
        starts = [int(found) for found in re.findall(r"start=\s*(\d+)", table)]
        where = f"{self._disk}?offset={starts[1] * 512}"
        checked = run(["e2fsck", "-fn", where]).splitlines()
        self.say(f"e2fsck: {checked[-1].split(': ', 1)[-1]}")


def need(holds: bool, otherwise: str) -> None:
    """Raises Failed with that text where it does not hold."""
    if not holds:
        raise Failed(otherwise)


def expected(name: str) -> str:
    """What was spoken in a clip."""
    for line in (CLIPS / "transcripts.tsv").read_text(encoding="utf-8").splitlines():
        clip, _, text = line.split("\t")
        if clip == name:
            return text
    raise KeyError(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every step gave what it should."""
    image = ROOT / f"build/image/funasr-agent-{__version__}-uefi-arm64.img"
    parser = argparse.ArgumentParser(prog="scripts/test-image", description=__doc__)
    parser.add_argument("--image", type=Path, default=image, metavar="FILE")
    parser.add_argument("--work", type=Path, default=ROOT / "build/test-image", metavar="DIR")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="of the page; needs Chromium")
    parser.add_argument(
        "--no-cuts", action="store_true", help="without the power cuts of an installation"
    )
    args = parser.parse_args(arguments)
    if not args.image.is_file():
        print(
            f"test-image: {args.image} is missing; make it with scripts/build-image",
            file=sys.stderr,
        )
        return 1
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        Trial(args.image, args.work, args.picture).run(cuts=not args.no_cuts)
    except (Failed, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"test-image: {error}\nconsole and log: {args.work}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
