"""What the recipe of the embedded models promises about its material."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts.evaluation import pipeline
from scripts.evaluation.pipeline import agreement
from scripts.train import augment, corpus, vad_data, vocabulary, voices
from scripts.train.clips import RATE
from scripts.train.variation import PACE, Variation

CLIP = np.concatenate([np.zeros(4000), np.sin(np.arange(8000) / 5), np.zeros(6000)]).astype("f4")


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_a_clip_is_padded_from_nothing_to_over_a_second() -> None:
    added = [len(augment.pad(CLIP, rng)) - len(CLIP) for rng in rngs(300)]
    tails = [np.flatnonzero(augment.pad(np.ones(800, "f4"), rng))[-1] for rng in rngs(300)]
    lengths = [len(augment.pad(np.ones(800, "f4"), rng)) for rng in rngs(300)]
    behind = [length - 1 - last for length, last in zip(lengths, tails, strict=True)]
    assert min(behind) < 0.08 * RATE
    assert 0.8 * RATE < max(behind) <= 1.2 * RATE
    assert min(added) >= 0


def test_a_close_cut_keeps_the_sound() -> None:
    for rng in rngs(50):
        cut = augment.crop(CLIP, rng)
        assert np.abs(cut).sum() > 0.99 * np.abs(CLIP).sum()
        assert len(cut) <= 8000 + 2 * int(0.05 * RATE) + 2


def test_nothing_is_nothing_but_bounded_sound() -> None:
    pool = augment.NoisePool(None)
    for rng in rngs(40):
        audio = augment.nothing(rng, pool, 1.0)
        assert len(audio) == RATE
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() <= 1.0


def test_every_training_sentence_is_made_of_tokens() -> None:
    rng = random.Random(1)
    for sample in (vocabulary.sample_more_zh, vocabulary.sample_more_en):
        for _, text in (sample(rng) for _ in range(500)):
            assert all(token in vocabulary.TOKEN_ID for token in vocabulary.tokens_of(text)), text


def test_no_kept_out_voice_is_among_the_training_voices() -> None:
    assert not set(corpus.TRAIN_FLITE) & set(corpus.KEPT_OUT_FLITE)
    assert not set(voices.NAMES) & set(corpus.KEPT_OUT_VARIANTS)
    assert len(set(voices.NAMES)) == len(voices.NAMES)


def test_the_tokens_of_the_recipe_are_those_of_the_shipped_models(root: Path) -> None:
    for name in ("builtin-offline", "builtin-online"):
        stored = json.loads((root / "models" / name / "tokens.json").read_text("utf-8"))
        assert stored == vocabulary.TOKENS


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([(0, 500)], [(0, 500)], (100, 100, 0)),
        ([(0, 400)], [(0, 500)], (90, 100, 0)),
        ([], [(0, 500)], (50, 100, 1)),
        ([(0, 300), (600, 900)], [(0, 300), (400, 500)], (60, 100, 1)),
    ],
)
def test_agreement_counts_frames_and_lost_segments(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], expected: tuple[int, int, int]
) -> None:
    assert agreement(ours, theirs, RATE) == expected


def test_tokens_are_enough_for_every_command() -> None:
    texts = [*vocabulary.COMMANDS_ZH, *vocabulary.COMMANDS_EN, *vocabulary.HUMAN_ZH]
    for text in texts:
        assert set(vocabulary.tokens_of(text)) <= set(vocabulary.TOKENS)


def test_a_text_of_two_languages_falls_into_words_and_characters() -> None:
    assert vocabulary.tokens_of("project见 turn on二") == ["project", "见", "turn", "on", "二"]
    assert vocabulary.tokens_of("打开灯") == ["打", "开", "灯"]


class Loud:
    """A stored set of one noise."""

    def __len__(self) -> int:
        return 1

    def mel(self, index: int) -> np.ndarray:
        return np.full((30, 80), 5.0, "f4")


def test_a_variation_is_another_version_of_the_same_length_or_near() -> None:
    mel = np.random.default_rng(1).normal(10, 3, (100, 80)).astype("f4")
    vary = Variation(Loud(), random.Random(1))  # type: ignore[arg-type]
    versions = [vary(mel, True) for _ in range(200)]
    assert all(np.isfinite(version).all() and version.shape[1] == 80 for version in versions)
    assert all(100 / PACE[1] - 1 <= len(version) <= 100 / PACE[0] + 1 for version in versions)
    assert len({len(version) for version in versions}) > 20
    assert sum(np.array_equal(version, mel) for version in versions) < 40


def test_a_variation_of_no_strength_is_the_utterance_itself() -> None:
    mel = np.random.default_rng(1).normal(10, 3, (100, 80)).astype("f4")
    vary = Variation(Loud(), random.Random(1))  # type: ignore[arg-type]
    vary.strength = 0.0
    assert all(np.array_equal(vary(mel, True), mel) for _ in range(20))


def test_the_detector_learns_its_teacher_but_for_known_synthetic_speech() -> None:
    rng = np.random.default_rng(1)
    frames = len(vad_data._energy_labels(CLIP))
    known = np.zeros(frames, "f4")
    known[10:20] = 1.0

    def teacher(audio: np.ndarray) -> np.ndarray:
        assert 0.4 < np.abs(audio).max() < 0.6  # Whatever the level of the scene.
        return np.full(frames, 0.3, "f4")

    heard = vad_data.target(CLIP * 0.01, known, teacher, rng)  # type: ignore[arg-type]
    assert np.array_equal(heard, np.where(known > 0, 1.0, 0.3).astype("f4"))
    assert vad_data.target(CLIP, known, None, rng) is known
    assert vad_data.target(CLIP * 0, known, teacher, rng) is known  # type: ignore[arg-type]


def test_models_that_no_agent_came_with_yet_can_be_evaluated(root: Path, tmp_path: Path) -> None:
    for name in ("builtin-vad", "builtin-online", "builtin-offline"):
        shutil.copytree(root / "models" / name, tmp_path / name)
        with (tmp_path / name / "manifest.yaml").open("a") as manifest:
            manifest.write("# the next set\n")
    models = pipeline.load(tmp_path)
    assert models.online is not None
    assert models.offline is not None
