"""The voice activity detector: FunASR's FSMN with two outputs (silence, speech), and training."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .features import MEL
from .vad_data import LFR_M, stack

BATCH_SCENES = 6
PEAK_RATE = 2e-3

# The published detector's post-processing, key by key.
POST_PROCESSING: dict[str, Any] = {
    "sample_rate": 16000,
    "detect_mode": 1,
    "snr_mode": 0,
    "max_end_silence_time": 800,
    "max_start_silence_time": 3000,
    "do_start_point_detection": True,
    "do_end_point_detection": True,
    "window_size_ms": 200,
    "sil_to_speech_time_thres": 150,
    "speech_to_sil_time_thres": 150,
    "speech_2_noise_ratio": 1.0,
    "do_extend": 1,
    "lookback_time_start_point": 200,
    "lookahead_time_end_point": 100,
    "max_single_segment_time": 60000,
    "snr_thres": -100.0,
    "noise_frame_num_used_for_snr": 100,
    "decibel_thres": -100.0,
    "speech_noise_thres": 0.5,
    "fe_prior_thres": 0.0001,
    "silence_pdf_num": 1,
    "sil_pdf_ids": [0],
    "speech_noise_thresh_low": -0.1,
    "speech_noise_thresh_high": 0.3,
    "output_frame_probs": False,
    "frame_in_ms": 10,
    "frame_length_ms": 25,
}


def configuration() -> dict[str, Any]:
    """FunASR's configuration of the detector."""
    return {
        "model": "FsmnVADStreaming",
        "model_conf": POST_PROCESSING,
        "encoder": "FSMN",
        "encoder_conf": {
            "input_dim": MEL * LFR_M,
            "input_affine_dim": 140,
            "fsmn_layers": 4,
            "linear_dim": 200,
            "proj_dim": 128,
            "lorder": 20,
            "rorder": 0,
            "lstride": 1,
            "rstride": 0,
            "output_affine_dim": 100,
            "output_dim": 2,
        },
    }


def model_arguments() -> dict[str, Any]:
    """The configuration flattened to the arguments of FunASR's constructor and exporter."""
    conf = configuration()
    return {"encoder": conf["encoder"], "encoder_conf": conf["encoder_conf"], **POST_PROCESSING}


def build_model() -> torch.nn.Module:
    """Create FunASR's detector with random weights."""
    import funasr.auto.auto_model  # noqa: F401  (registers every class)
    from funasr.register import tables

    return tables.model_classes["FsmnVADStreaming"](**model_arguments())


def train(scenes: Path, cmvn: Path, out: Path, minutes: float, seed: int) -> None:
    """Train on the composed scenes for some minutes; the weights go to `out`."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("medium")
    stored = np.load(scenes)
    mel, labels = stored["mel"], stored["labels"]
    if not cmvn.exists():
        sample = np.concatenate([stack(m.astype(np.float32)) for m in mel[::10]])
        np.savez(cmvn, shift=-sample.mean(0), scale=1.0 / np.maximum(sample.std(0), 1e-3))
    norm = np.load(cmvn)
    shift, scale = norm["shift"].astype(np.float32), norm["scale"].astype(np.float32)
    model = build_model()
    encoder = model.encoder
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.0, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    encoder.train()
    begin, step, done = time.monotonic(), 0, 0.0
    log: list[tuple[float, float, float]] = []
    while done < 1.0:
        order = rng.permutation(len(mel))
        for start in range(0, len(order) - BATCH_SCENES + 1, BATCH_SCENES):
            done = (time.monotonic() - begin) / (minutes * 60)
            if done >= 1.0:
                break
            cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))
            for group in optimiser.param_groups:
                group["lr"] = PEAK_RATE * min(1.0, step / 50) * cosine
            rows = order[start : start + BATCH_SCENES]
            features = np.stack([stack(mel[row].astype(np.float32)) for row in rows])
            probability = encoder(torch.from_numpy((features + shift) * scale), None)
            target = torch.from_numpy(labels[rows].astype(np.float32))
            speech = probability[..., 1].clamp(1e-6, 1 - 1e-6)
            # A false alarm in a scene without speech costs more than any other mistake: noise
            # must never open a segment. Elsewhere the targets are met as they are.
            silent = target.amax(1, keepdim=True) < 0.5
            weight = torch.where(silent, 2.0, 1.0).expand_as(target)
            loss = torch.nn.functional.binary_cross_entropy(speech, target, weight=weight)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
            optimiser.step()
            step += 1
            with torch.no_grad():
                fired = speech >= 0.8
                hits = fired[target > 0.5].float().mean()
                alarms = fired[target <= 0.5].float().mean()
            log.append((float(loss.detach()), float(hits), float(alarms)))
            if step % 50 == 0:
                mean = np.nanmean(log, axis=0)
                print(
                    f"vad step {step} {done:.1%} loss {mean[0]:.3f} hits {mean[1]:.1%}"
                    f" alarms {mean[2]:.2%}",
                    flush=True,
                )
                log = []
    torch.save(model.state_dict(), out)
    print(f"vad: {step} steps", flush=True)
