"""README.md of a model folder: data and licences, measured results, limits."""

from __future__ import annotations

from typing import Any

_TITLES = {
    "offline": "Embedded Paraformer (whole utterances)",
    "online": "Embedded streaming Paraformer",
    "vad": "Embedded FSMN voice activity detector",
}
_SETS = {
    "zh": "Mandarin, unseen espeak-ng voices",
    "zh-noisy": "the same with noise at 10 dB",
    "en": "English, unseen espeak-ng voices",
    "en-noisy": "the same with noise at 10 dB",
    "slt": "English, unseen flite voice slt",
    "fsdd": "human digits (FSDD), speaker lucas kept out",
    "fsdd-strings": "human digits joined to strings, speaker lucas kept out",
    "dspspeech": "human words (DSPSpeech-20), speakers 26 to 28 kept out",
}

_SOURCES = """
| source | use | licence |
|---|---|---|
| espeak-ng (own synthesis of our own text) | most of the speech | GPL-3.0 (the programme) |
| flite voices kal16, awb, rms (own synthesis) | English speech | BSD-like |
| SVOX Pico (en, de, fr, it, es; own synthesis) | English speech, some with an accent | Apache-2.0 |
| RHVoice's alan, bdl, clb (own synthesis) | English speech | LGPL, CMU's |
| festival's ked; Italian, Finnish, Czech voices (likewise) | English speech | BSD-like, GPL, LGPL |
| word lists of jieba and wamerican, spoken likewise | what must give no text | MIT, public domain |
| Free Spoken Digit Dataset (FSDD), Z. Jackson and contributors | human digits | CC BY-SA 4.0 |
| DSPSpeech-20 | human words | MIT |
| Speech Commands v0.01, P. Warden (300 recordings) | human words | CC BY 4.0 |
| audio-cmn: HSK words by Yue Tan, syllables by Chen Wang | human Mandarin | CC BY-SA |
| Asterisk sounds (A. Smith, J. Wallack, C. Flora, ivrvoice.ru) | speech | CC BY-SA 3.0, CC BY |
| ESC-10 (from ESC-50, K. J. Piczak) | noise | CC BY or CC0 per clip |
| SpeechBrain's noise and room impulse responses | noise, rooms | Apache-2.0 |
"""

_LIMITS_ASR = """
* A closed vocabulary of about 100 commands, digits and numbers (`scripts/train/vocabulary.py`).
  Speech outside it gives nothing at best, wrong words at worst.
* Most of the material is synthetic voices: human voices other than digits and the twenty words
  are expected to do markedly worse than the table says. For dictation, install a full-size model.
"""

_LIMITS_VAD = """
* Trained on synthetic speech, on human words and telephone prompts, and on recorded noise; music
  and loud animal sounds may count as speech.
"""


def _asr_table(int8: dict[str, Any], fp32: dict[str, Any] | None) -> list[str]:
    lines = ["| set | token error rate int8 | fp32 | exact sentences |", "|---|---|---|---|"]
    for name, title in _SETS.items():
        if name in int8:
            other = f"{fp32[name]['all']:.1f} %" if fp32 and name in fp32 else "-"
            row = int8[name]
            lines.append(f"| {title} | {row['all']:.1f} % | {other} | {row['exact']:.0f} % |")
    for name, title in (
        ("nothing", "silence and noise, 0.4 to 4 s, any level"),
        ("foreign", "Mandarin sentences outside the vocabulary (AISHELL-1)"),
    ):
        if name in int8:
            row = int8[name]
            lines.append(f"| {title} | text in {row['with text']} of {row['clips']} clips | | |")
    noisy = int8["white noise and silence"]
    wrong = sum(1 for tokens in noisy.values() if tokens)
    lines.append(
        f"| digital silence, white noise at ten levels | text in {wrong} of {len(noisy)} | | |"
    )
    lines += ["", "Token: a Han character or an English word. Kinds of sentences, int8:", ""]
    for name in ("zh", "en", "slt"):
        if name in int8:
            kinds = {k: v for k, v in int8[name].items() if k not in ("all", "exact")}
            lines.append(f"* {name}: " + ", ".join(f"{k} {v:.1f} %" for k, v in kinds.items()))
    lines += ["", f"Real-time factor on one x86-64 core: {int8['real-time factor']:.4f}."]
    return lines


def _vad_table(result: dict[str, Any]) -> list[str]:
    lines = ["| check | result |", "|---|---|"]
    for name, row in result.items():
        if name == "white noise and silence":
            text = f"segments in {sum(1 for v in row.values() if v)} of {len(row)} clips"
        elif not isinstance(row, dict):
            text = f"{row:.1%} of the frames"
        elif "with segment" in row:
            text = f"segments in {row['with segment']} of {row['clips']} clips"
        else:
            text = f"{row['found']} of {row['clips']} found, {row['whole']} wholly covered"
        title = _SETS.get(name, name)
        lines.append(f"| {title} | {text} |")
    return lines


def card(kind: str, model_id: str, int8: dict[str, Any], fp32: dict[str, Any] | None) -> str:
    """Return the text of README.md."""
    lines = [f"# {model_id}", "", f"{_TITLES[kind]}, made by `scripts/train/make`; FunASR layout."]
    if kind == "vad":
        lines += [
            "`model.onnx` (fp32) decides the same whatever the chunk size; `model_quant.onnx` is",
            "the int8 form. Its teacher is the published FSMN-VAD; noise was marked as silence.",
        ]
    lines += ["", "## Data", _SOURCES.strip(), "", "## Measured", ""]
    lines += _vad_table(int8) if kind == "vad" else _asr_table(int8, fp32)
    lines += ["", "## Limits", (_LIMITS_VAD if kind == "vad" else _LIMITS_ASR).strip(), ""]
    lines += [
        "## Licence",
        "Apache-2.0. Attribution: trained with recordings of the Free Spoken Digit Dataset,",
        "https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0, and of the other",
        "sources in the table. No recording is part of the model.",
    ]
    return "\n".join(lines) + "\n"
