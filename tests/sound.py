"""Microphones for tests: real PortAudio streams over ALSA's file plugin or over PulseAudio."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from agent.types import SAMPLE_RATE, Int16

BLOCK = SAMPLE_RATE // 50
"""Samples that are written at a time: 20 ms."""
ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")
_WAIT_S = 20.0

_FILE_DEVICE = """<{base}>
pcm.{name} {{ type file  slave.pcm "null"  file "/dev/null"  format "raw"  infile "{fifo}"
  hint {{ show on  description "Test microphone" }} }}
"""
_PULSE_DEVICE = """<{base}>
pcm.{name} {{ type pulse  device "{name}"  hint {{ show on  description "Test microphone" }} }}
"""
_PULSE_SCRIPT = """load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
"""


def require_portaudio() -> None:
    """Skip the test where PyAudio or ALSA's configuration is missing."""
    if importlib.util.find_spec("pyaudio") is None:
        pytest.skip("PyAudio is not installed (portaudio19-dev, extra `audio`)")
    if not ALSA_CONFIG.exists():
        pytest.skip(f"{ALSA_CONFIG} is missing (libasound2-data)")


def require_pulse() -> None:
    """Skip the test where PulseAudio or ALSA's way to it is missing."""
    require_portaudio()
    for name in ("pulseaudio", "pactl"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed (pulseaudio, pulseaudio-utils)")
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        pytest.skip("ALSA has no PulseAudio plug-in (libasound2-plugins)")


class FifoMicrophone:
    """An ALSA device that reads a FIFO: bit-exact, paced by the test; silent while it is dry."""

    name = "fifomic"

    def __init__(self, folder: Path, name: str = "fifomic") -> None:
        require_portaudio()
        self.name = name
        fifo = folder / f"{name}.fifo"
        os.mkfifo(fifo)
        # Both ends, so that neither the device nor the test waits for the other to open it.
        self.fd = os.open(fifo, os.O_RDWR)
        config = folder / f"{name}.conf"
        config.write_text(_FILE_DEVICE.format(base=ALSA_CONFIG, name=name, fifo=fifo))
        self.environ = {"ALSA_CONFIG_PATH": str(config)}

    def play(self, samples: Int16, rate: int = SAMPLE_RATE, channels: int = 1) -> None:
        """Speak interleaved samples [n * channels] in real time.

        In blocks that the device reads whole: after a short read the plug-in repeats old audio.
        """
        start, size = time.monotonic(), rate // 50 * channels
        for first in range(0, len(samples), size):
            block = samples[first : first + size]
            os.write(self.fd, block.astype("<i2").tobytes())
            ahead = start + (first + len(block)) / (rate * channels) - time.monotonic()
            time.sleep(max(0.0, ahead))

    def close(self) -> None:
        os.close(self.fd)


class PulseMicrophone:
    """A PulseAudio source that can be unplugged; noise is spoken into it all the time."""

    name = "usbmic"

    def __init__(self, folder: Path) -> None:
        require_pulse()
        self._folder = folder
        self._fifo = folder / "usbmic.fifo"
        socket = folder / "pulse.sock"
        config, script = folder / "asound.conf", folder / "pulse.pa"
        config.write_text(_PULSE_DEVICE.format(base=ALSA_CONFIG, name=self.name))
        script.write_text(_PULSE_SCRIPT.format(socket=socket))
        self.environ = {"ALSA_CONFIG_PATH": str(config), "PULSE_SERVER": f"unix:{socket}"}
        self._private = {**os.environ, **self.environ, "HOME": str(folder)}
        self._private["XDG_RUNTIME_DIR"] = str(folder)
        self._talking = threading.Event()
        self._talking.set()
        self._ended = threading.Event()
        self._talker = threading.Thread(target=self._talk, name="talker", daemon=True)
        self.written = 0
        """Samples spoken so far."""

    def __enter__(self) -> PulseMicrophone:
        script = str(self._folder / "pulse.pa")
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", "-F", script, "--exit-idle-time=-1", "--use-pid-file=no"],
            env=self._private,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _WAIT_S
        while self._pactl("info").returncode != 0:
            assert time.monotonic() < deadline, "PulseAudio does not answer"
            time.sleep(0.05)
        self.plug()
        self._talker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._talking.set()
        self._talker.join(5)
        self._server.terminate()
        self._server.wait(10)

    def plug(self) -> None:
        """Put it in."""
        done = self._pactl(
            *("load-module", "module-pipe-source", f"source_name={self.name}"),
            *(f"file={self._fifo}", "format=s16le", f"rate={SAMPLE_RATE}", "channels=1"),
        )
        assert done.returncode == 0, done.stderr

    def unplug(self) -> None:
        """Pull it: PortAudio sees an error."""
        assert self._pactl("unload-module", "module-pipe-source").returncode == 0

    def hush(self) -> None:
        """Its audio stops without a word, as with a device that the kernel lost."""
        self._talking.clear()

    def talk(self) -> None:
        """It goes on."""
        self._talking.set()

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pactl", *arguments], env=self._private, capture_output=True, text=True, timeout=20
        )

    def _talk(self) -> None:
        noise = np.random.default_rng(1).normal(0, 300, BLOCK).astype("<i2").tobytes()
        fd, due = -1, time.monotonic()
        while not self._ended.is_set():
            if not self._talking.is_set():
                self._talking.wait()
                due = time.monotonic()
            try:
                if fd < 0:
                    fd = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
                self.written += os.write(fd, noise) // 2
            except BlockingIOError:
                pass  # nobody reads at the moment
            except OSError:  # unplugged
                if fd >= 0:
                    os.close(fd)
                fd = -1
            due += BLOCK / SAMPLE_RATE
            time.sleep(max(0.0, due - time.monotonic()))
        if fd >= 0:
            os.close(fd)
