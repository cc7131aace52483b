"""The resampler of worklet.js, run by the browser's own offline audio rendering."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.gui_integration.conftest import OpenPage, Visit
from tests.gui_integration.fake_agent import FakeAgent

RENDER = """
async ({ rate, tone }) => {
  const context = new OfflineAudioContext(1, rate, rate);
  await context.audioWorklet.addModule("/static/worklet.js");
  const node = new AudioWorkletNode(context, "chunk-recorder", { numberOfOutputs: 0 });
  const chunks = [];
  const flushed = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => {
      if (data.flushed) resolve();
      else chunks.push(data);
    };
  });
  const buffer = new AudioBuffer({ length: rate, sampleRate: rate });
  const sine = (_, i) => Math.sin((2 * Math.PI * tone * i) / rate);
  buffer.copyToChannel(Float32Array.from({ length: rate }, sine), 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(node);
  source.start();
  await context.startRendering();
  node.port.postMessage("flush");
  await Promise.race([flushed, new Promise((resolve) => setTimeout(resolve, 500))]);
  return {
    sizes: chunks.map(({ samples }) => samples.length),
    samples: chunks.flatMap(({ samples }) => [...samples]),
    rms: chunks.at(-2).rms,
    peak: chunks.at(-2).peak,
  };
}
"""
FULL_SCALE_RMS = 32768 / np.sqrt(2)


async def render(
    visit: Visit, rate: int, tone: int
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """The middle of one second of a sine, as the worklet hands it over."""
    got = await visit.page.evaluate(RENDER, {"rate": rate, "tone": tone})
    assert set(got["sizes"][:-1]) <= {1600}
    return np.array(got["samples"], float)[3200:12800], got


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
async def test_speech_band_passes_and_aliases_are_kept_out(
    fake_agent: FakeAgent, open_page: OpenPage, rate: int
) -> None:
    visit = await open_page(fake_agent.url)
    for tone in (100, 1000, 6500):
        audio, got = await render(visit, rate, tone)
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        assert abs(int(spectrum.argmax()) * 16000 / len(audio) - tone) < 2
        assert abs(20 * np.log10(np.std(audio) / FULL_SCALE_RMS)) < 0.2
        assert abs(got["rms"] - np.sqrt(0.5)) < 0.02
        assert got["peak"] > 0.95
    if rate > 2 * 8600:
        audio, _ = await render(visit, rate, 8600)
        assert 20 * np.log10(max(np.std(audio), 1) / FULL_SCALE_RMS) < -60
