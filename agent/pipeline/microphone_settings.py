"""From the configuration of the microphone to the settings of its parts."""

from __future__ import annotations

from dataclasses import replace

from agent.audio.capture_protocol import Opened
from agent.audio.source import Wish, matches
from agent.audio.supervisor import Timing
from agent.config import Microphone
from agent.types import RecognitionMode, StreamOptions


def stream_options(settings: Microphone) -> StreamOptions:
    """What its sessions ask for."""
    return StreamOptions(
        mode=RecognitionMode(settings.mode),
        hotwords=tuple(settings.hotwords.items()),
        itn=settings.itn,
        language=settings.language,
    )


def wish(settings: Microphone) -> Wish:
    """What is to be opened."""
    return Wish(
        device=settings.device,
        fallback=settings.fallback,
        channel=settings.channel,
        rate=settings.rate,
        ring_ms=settings.ring_ms,
    )


def timing(settings: Microphone) -> Timing:
    """How it is watched."""
    return Timing(
        stall_ms=settings.stall_ms,
        retry_min_ms=settings.retry_min_ms,
        retry_max_ms=settings.retry_max_ms,
        probe_ms=round(settings.probe_s * 1000),
    )


def still_fits(source: Opened | None, before: Wish, now: Wish) -> bool:
    """Whether what is open for one wish is what another one would open."""
    if source is None or source.instead:
        return False
    if replace(before, device=now.device, fallback=now.fallback) != now:
        return False
    return now.device == before.device or (now.device != "" and matches(source.device, now.device))
