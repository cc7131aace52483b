"""Augmentation: speed, padding, band limit, rooms, equaliser, noise and gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr

from .clips import RATE, Audio, read_audio

Rng = np.random.Generator


class NoisePool:
    """Recorded noise and room impulse responses, where the data folder has them."""

    def __init__(self, data: Path | None, held_out: bool = False) -> None:
        """Load them; `held_out` takes the clips that training does not use."""
        self.noises: list[Audio] = []
        self.rooms: list[Audio] = []
        if data is None:
            return
        for path in sorted((data / "noise-esc10").glob("*/*.ogg")):
            # The third fold is for tests.
            if path.name.startswith("3-") == held_out:
                self._add(self.noises, path)
        for path in sorted((data / "speechbrain" / "noise").glob("*.wav")):
            if (path.stem == "noise5") == held_out:
                self._add(self.noises, path)
        for path in sorted((data / "speechbrain" / "rirs").glob("*.wav")):
            self._add(self.rooms, path)

    @staticmethod
    def _add(pool: list[Audio], path: Path) -> None:
        audio = read_audio(path)
        # Some clips are padded with zeros: take the part that sounds.
        loud = np.flatnonzero(np.abs(audio) > 1e-4)
        if loud.size > 800:
            pool.append(audio[loud[0] : loud[-1] + 1])

    def draw(self, rng: Rng, length: int) -> Audio:
        """Return `length` samples of some noise with standard deviation 1."""
        if self.noises and rng.random() < 0.5:
            source = self.noises[rng.integers(len(self.noises))]
            noise = np.roll(np.resize(source, max(length, len(source))), rng.integers(length + 1))
            noise = noise[:length]
        else:
            noise = coloured_noise(rng, length)
        return noise / (noise.std() + 1e-9)


def coloured_noise(rng: Rng, length: int) -> Audio:
    """White, pink or brown noise, sometimes with steps in its level."""
    noise = rng.standard_normal(length).astype(np.float32)
    slope = rng.choice([0.0, 0.0, -0.5, -1.0])
    if slope:
        spectrum = np.fft.rfft(noise)
        frequency = np.maximum(np.arange(len(spectrum)), 1) / len(spectrum)
        noise = np.fft.irfft(spectrum * frequency**slope, length).astype(np.float32)
    if rng.random() < 0.3:
        steps = rng.uniform(0.1, 1.5, length // 4000 + 1)
        noise = noise * np.repeat(steps, 4000)[:length]
    return noise


def change_speed(audio: Audio, factor: float) -> Audio:
    """Play faster or slower; pitch and formants move along."""
    length = int(len(audio) / factor)
    grid = np.linspace(0, len(audio) - 1, length)
    return np.interp(grid, np.arange(len(audio)), audio).astype(np.float32)


def _filter(audio: Audio, response: Audio) -> Audio:
    size = len(audio) + len(response)
    product = np.fft.rfft(audio, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(audio)].astype(np.float32)


def _room(audio: Audio, rng: Rng, pool: NoisePool) -> Audio:
    if pool.rooms and rng.random() < 0.5:
        response = pool.rooms[rng.integers(len(pool.rooms))]
        response = response[int(np.abs(response).argmax()) :][: RATE // 2]
        return _filter(audio, response / (np.abs(response).max() + 1e-9))
    decay = rng.uniform(0.1, 0.5)
    length = int(decay * RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response = (tail * rng.uniform(0.02, 0.12)).astype(np.float32)
    response[0] = 1.0
    return _filter(audio, response)


def _equalise(audio: Audio, rng: Rng) -> Audio:
    spectrum = np.fft.rfft(audio)
    axis = np.linspace(0, 1, len(spectrum))
    tilt = rng.uniform(-12, 12) * axis
    wave = rng.uniform(-6, 6) * np.sin(axis * rng.uniform(1, 8))
    return np.fft.irfft(spectrum * 10 ** ((tilt + wave) / 20), len(audio)).astype(np.float32)


def _narrow_band(audio: Audio) -> Audio:
    narrow = soxr.resample(audio, RATE, RATE // 2)
    return soxr.resample(narrow, RATE // 2, RATE).astype(np.float32)


def colour(audio: Audio, rng: Rng, pool: NoisePool) -> Audio:
    """Apply room, equaliser and band limit, each at random."""
    if rng.random() < 0.2:
        audio = _narrow_band(audio)
    if rng.random() < 0.4:
        audio = _room(audio, rng, pool)
    if rng.random() < 0.3:
        audio = _equalise(audio, rng)
    return audio


def pad(audio: Audio, rng: Rng) -> Audio:
    """Silence around, from none at all to what a pipeline hands over at most.

    A detector may cut right behind a word as well as a second after it.
    """
    before = rng.uniform(0.0, 0.05) if rng.random() < 0.25 else rng.uniform(0.05, 0.6)
    draw = rng.random()
    if draw < 0.3:
        after = rng.uniform(0.0, 0.08)
    else:
        after = rng.uniform(0.08, 0.45) if draw < 0.7 else rng.uniform(0.45, 1.2)
    return np.pad(audio, (int(before * RATE), int(after * RATE))).astype(np.float32)


def crop(audio: Audio, rng: Rng) -> Audio:
    """Cut close to the speech, as a hasty detector does; the word itself stays."""
    loud = np.flatnonzero(np.abs(audio) > 0.03 * np.abs(audio).max())
    if loud.size == 0:
        return audio
    first = max(0, loud[0] - int(rng.uniform(0.0, 0.05) * RATE))
    return audio[first : loud[-1] + int(rng.uniform(0.0, 0.05) * RATE) + 1]


def add_noise(
    audio: Audio, rng: Rng, pool: NoisePool, snr_db: float, babble: Audio | None = None
) -> Audio:
    """Add noise (or other speech) at a signal-to-noise ratio."""
    if babble is None:
        noise = pool.draw(rng, len(audio))
    else:
        noise = np.resize(babble, len(audio))
        noise = noise / (noise.std() + 1e-9)
    return audio + noise * (audio.std() * 10 ** (-snr_db / 20))


def set_level(audio: Audio, rng: Rng, low: float = 0.02) -> Audio:
    """Scale to a random peak, drawn evenly in dB."""
    peak = float(np.exp(rng.uniform(np.log(low), np.log(0.98))))
    return (audio * (peak / max(1e-6, float(np.abs(audio).max())))).astype(np.float32)


def speech(audio: Audio, rng: Rng, pool: NoisePool, babble: Audio | None = None) -> Audio:
    """One training version of a clip."""
    if rng.random() < 0.6:
        audio = change_speed(audio, rng.uniform(0.82, 1.22))
    if rng.random() < 0.5:
        audio = crop(audio, rng)
    audio = pad(audio, rng)
    if rng.random() < 0.15:
        return set_level(audio, rng)
    audio = colour(audio, rng, pool)
    if rng.random() < 0.75:
        if babble is not None and rng.random() < 0.15:
            audio = add_noise(audio, rng, pool, rng.uniform(12, 30), babble)
        else:
            audio = add_noise(audio, rng, pool, rng.uniform(3, 35))
    return set_level(audio, rng)


def tune(rng: Rng, length: int) -> Audio:
    """Something like music: notes with overtones that decay, sometimes over a beat of noise."""
    audio = np.zeros(length, np.float32)
    root = rng.uniform(110, 440)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12])
    start, step = 0, int(rng.uniform(0.12, 0.6) * RATE)
    decay = rng.uniform(2, 9)
    overtones = rng.uniform(0.2, 1.0, 8) / np.arange(1, 9)
    while start < length:
        size = min(length - start, int(step * rng.uniform(1.0, 3.0)))
        times = np.arange(size) / RATE
        for note in rng.choice(scale, rng.integers(1, 4), replace=False):
            frequency = root * 2 ** (note / 12)
            for number, strength in enumerate(overtones, 1):
                if frequency * number < RATE / 2:
                    phase = 2 * np.pi * frequency * number * times
                    wave = strength * np.sin(phase + rng.uniform(0, 6)) * np.exp(-decay * times)
                    audio[start : start + size] += wave.astype(np.float32)
        if rng.random() < 0.4:
            beat = rng.standard_normal(size) * np.exp(-30 * times) * rng.uniform(0.2, 1.5)
            audio[start : start + size] += beat.astype(np.float32)
        start += step
    return audio / (audio.std() + 1e-9)


def nothing(rng: Rng, pool: NoisePool, seconds: float | None = None) -> Audio:
    """Audio without speech: silence, noise at any level, music, clicks, tones."""
    length = int((rng.uniform(0.4, 4.0) if seconds is None else seconds) * RATE)
    level = 10 ** (rng.uniform(-95, -8) / 20)
    draw = rng.random()
    if draw < 0.08:
        return np.zeros(length, np.float32)
    if draw < 0.22:
        audio = rng.standard_normal(length).astype(np.float32)
    elif draw < 0.34:
        audio = tune(rng, length)
    elif draw < 0.9:
        audio = pool.draw(rng, length)
    elif draw < 0.95:
        times = np.arange(length) / RATE
        audio = np.sin(2 * np.pi * rng.uniform(50, 4000) * times).astype(np.float32)
    else:
        audio = np.zeros(length, np.float32)
        audio[rng.integers(0, length, rng.integers(1, 12))] = rng.uniform(-8, 8)
    if rng.random() < 0.25:
        # An onset or an end of the noise inside the clip.
        edge = rng.integers(0, length)
        part = slice(0, edge) if rng.random() < 0.5 else slice(edge, None)
        audio[part] *= 10 ** (-rng.uniform(5, 60) / 20)
    return np.clip(audio * level, -1.0, 1.0)
