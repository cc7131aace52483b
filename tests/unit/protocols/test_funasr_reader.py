"""What FunASR's clients send: every quirk seen in the field, one test each."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ProtocolError
from agent.protocols.funasr_ws import Audio, Begin, End, FileBytes, FunasrInput, FunasrReader
from agent.types import RecognitionMode, StreamOptions

PCM = np.arange(-2000, 2000, dtype=np.int16)
END = '{"is_speaking": false}'


def wav(
    samples: np.ndarray, rate: int = 16000, channels: int = 1, size: int | None = None
) -> bytes:
    data = samples.astype("<i2").tobytes()
    layout = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout
    body += b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def start(**fields: Any) -> str:
    return json.dumps({"is_speaking": True, **fields})


def begun(*messages: str | bytes) -> Begin:
    found = [item for item in feed(*messages) if isinstance(item, Begin)]
    assert len(found) == 1
    return found[0]


def begin_of(inputs: list[FunasrInput]) -> StreamOptions:
    assert isinstance(inputs[0], Begin)
    return inputs[0].options


def feed(*messages: str | bytes, reader: FunasrReader | None = None) -> list[FunasrInput]:
    reader = reader or FunasrReader()
    out: list[FunasrInput] = []
    for message in messages:
        out += (
            reader.receive_text(message)
            if isinstance(message, str)
            else reader.receive_bytes(message)
        )
    return out


def samples(inputs: list[FunasrInput]) -> list[int]:
    return [int(x) for item in inputs if isinstance(item, Audio) for x in item.samples]


def test_defaults_when_audio_comes_before_any_text() -> None:
    assert begun(PCM.tobytes()) == Begin(StreamOptions())


def test_all_fields_of_the_first_message() -> None:
    options = begun(
        start(
            mode="online",
            chunk_size=[8, 8, 4],
            chunk_interval=10,
            encoder_chunk_look_back=4,
            decoder_chunk_look_back=1,
            wav_name="mic",
            wav_format="pcm",
            audio_fs=8000,
            itn=False,
            svs_lang="zh",
            unknown={"a": 1},
        ),
        PCM.tobytes(),
    ).options
    assert options == StreamOptions(RecognitionMode.ONLINE, (8, 8, 4), 8000, (), False, "zh", "mic")


def test_punctuation_can_be_switched_off() -> None:
    assert begun(start(), b"ab").options.punctuation
    assert not begun(start(punctuation=False), b"ab").options.punctuation


def test_mode_office_is_a_typo_for_offline() -> None:
    assert begun(start(mode="office"), b"\1\2").options.mode is RecognitionMode.OFFLINE


def test_no_mode_is_2pass() -> None:
    assert begun(start(), b"\1\2").options.mode is RecognitionMode.TWO_PASS


def test_no_mode_with_another_format_than_pcm_is_offline() -> None:
    begin = begun(start(wav_format="mp3"), b"ID3 and so on")
    assert begin.options.mode is RecognitionMode.OFFLINE
    assert begin.is_container


@pytest.mark.parametrize("value", ["5,10,5", [5, 10, 5], ["5", "10", "5"]])
def test_chunk_size_as_text_or_list(value: Any) -> None:
    assert begun(start(chunk_size=value), b"\1\2").options.chunk_size == (5, 10, 5)


def test_chunk_size_without_look_back() -> None:
    assert begun(start(chunk_size=[0, 10, 5]), b"\1\2").options.chunk_size == (0, 10, 5)


@pytest.mark.parametrize(
    "value",
    [
        [5, 10],
        [5, 0, 5],
        [-1, 10, 5],
        [5, 1000, 5],
        "a,b,c",
        7,
        [True, 1, 1],
        [None] * 3,
        [5, float("inf"), 5],
    ],
)
def test_a_wrong_chunk_size_is_named(value: Any) -> None:
    with pytest.raises(ProtocolError, match="chunk_size") as raised:
        FunasrReader().receive_text(start(chunk_size=value))
    assert raised.value.close_code == 1007


@pytest.mark.parametrize("value", [8000, 8000.0, "8000"])
def test_audio_fs_may_be_a_float_or_text(value: Any) -> None:
    assert begun(start(audio_fs=value), b"\1\2").options.sample_rate == 8000


@pytest.mark.parametrize(
    "value", [0, -1, 1e9, 16000.5, "fast", True, [16000], 10**400, float("nan")]
)
def test_an_absurd_rate_is_named(value: Any) -> None:
    with pytest.raises(ProtocolError, match="audio_fs"):
        FunasrReader().receive_text(start(audio_fs=value))


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ('{"阿里巴巴": 20, "hello world": 30}', (("阿里巴巴", 20), ("hello world", 30))),
        ('{"阿里巴巴": "20"}', (("阿里巴巴", 20),)),
        ({"阿里巴巴": 20}, (("阿里巴巴", 20),)),
        ("阿里巴巴,hello world", (("阿里巴巴", 20), ("hello world", 20))),
        ("阿里巴巴 通义", (("阿里巴巴", 20), ("通义", 20))),
        ("", ()),
        (None, ()),
    ],
)
def test_hotwords_in_every_form(value: Any, pairs: tuple[tuple[str, int], ...]) -> None:
    assert begun(start(hotwords=value), b"\1\2").options.hotwords == pairs


@pytest.mark.parametrize("value", ['{"a": [1]}', '{"a": ', 7, '{"a": true}', [1]])
def test_wrong_hotwords_are_named(value: Any) -> None:
    with pytest.raises(ProtocolError, match="hotwords"):
        FunasrReader().receive_text(start(hotwords=value))


def test_too_many_hotwords_are_refused() -> None:
    with pytest.raises(ProtocolError, match="at most 1000"):
        FunasrReader().receive_text(start(hotwords=" ".join(f"w{i}" for i in range(1001))))


def test_is_finished_ends_the_input_too() -> None:
    assert feed(PCM.tobytes(), '{"is_finished": true}')[-1] == End()


def test_is_end_asks_for_an_acknowledgement() -> None:
    reader = FunasrReader()
    feed(PCM.tobytes(), '{"is_speaking": false, "is_end": true}', reader=reader)
    assert reader.wants_acknowledgement
    feed(PCM.tobytes(), END, reader=reader)
    assert not reader.wants_acknowledgement


def test_an_end_without_audio_still_begins_and_ends_a_stream() -> None:
    assert feed(start(wav_name="empty"), END) == [Begin(StreamOptions(wav_name="empty")), End()]


def test_the_same_socket_may_start_over() -> None:
    reader = FunasrReader()
    first = feed(start(wav_name="a", audio_fs=8000), PCM.tobytes(), END, reader=reader)
    second = feed(PCM.tobytes(), END, reader=reader)
    assert samples(first) == samples(second) == PCM.tolist()
    assert second[0] == Begin(StreamOptions())


def test_settings_sent_once_audio_flows_change_nothing() -> None:
    reader = FunasrReader()
    inputs = feed(PCM.tobytes(), start(audio_fs=8000, mode="offline"), PCM.tobytes(), reader=reader)
    assert samples(inputs) == PCM.tolist() * 2
    assert reader.options == StreamOptions()


def test_hotwords_named_before_the_first_file_hold_for_the_next_ones() -> None:
    reader = FunasrReader()
    feed(start(hotwords='{"阿里巴巴": 30}'), PCM.tobytes(), END, reader=reader)
    assert begin_of(feed(start(), PCM.tobytes(), END, reader=reader)).hotwords == (
        ("阿里巴巴", 30),
    )
    assert begin_of(feed(start(hotwords=""), PCM.tobytes(), END, reader=reader)).hotwords == ()


@pytest.mark.parametrize(("size", "stray"), [(0, 0), (1, 1), (6, 0), (7, 1)])
def test_a_stray_byte_is_counted_at_the_end(size: int, stray: int) -> None:
    inputs = feed(PCM.tobytes()[:size], END)
    assert inputs[-1] == End(stray_bytes=stray)
    assert len(samples(inputs)) == size // 2


def test_an_empty_format_is_pcm_and_names_no_mode() -> None:
    begin = begun(start(wav_format=""), b"\1\2")
    assert (begin.options.mode, begin.is_container) == (RecognitionMode.TWO_PASS, False)


@given(cuts=st.lists(st.integers(0, 2 * len(PCM)), max_size=30))
def test_samples_do_not_depend_on_message_boundaries(cuts: list[int]) -> None:
    data = PCM.tobytes()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]  # noqa: RUF007
    assert samples(feed(*pieces, END)) == PCM.tolist()


@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_a_wav_header_called_pcm_is_sniffed_wherever_it_is_cut(cuts: list[int]) -> None:
    data = wav(PCM, rate=8000)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]  # noqa: RUF007
    inputs = feed(start(wav_format="PCM", audio_fs=16000), *pieces, END)
    assert isinstance(inputs[0], Begin)
    assert inputs[0].options.sample_rate == 8000
    assert samples(inputs) == PCM.tolist()


def test_what_follows_the_audio_in_a_wav_file_is_not_audio() -> None:
    assert samples(feed(wav(PCM) + b"LIST\4\0\0\0abcd", END)) == PCM.tolist()


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_header_of_a_writer_that_streams_has_no_size(size: int) -> None:
    assert samples(feed(wav(PCM, size=size), PCM.tobytes(), END)) == PCM.tolist() * 2


def test_stereo_wav_goes_to_the_file_decoder_whole() -> None:
    data = wav(PCM, channels=2)
    inputs = feed(start(wav_format="wav"), data[:100], data[100:], END)
    assert isinstance(inputs[0], Begin)
    assert inputs[0].is_container
    assert b"".join(i.data for i in inputs if isinstance(i, FileBytes)) == data


def test_raw_samples_declared_as_wav_are_samples() -> None:
    assert samples(feed(start(wav_format="wav"), PCM.tobytes(), END)) == PCM.tolist()


def test_others_is_a_container_until_the_end() -> None:
    inputs = feed(start(wav_format="others", mode="2pass"), b"fLaC", b"more", END)
    assert inputs[1:] == [FileBytes(b"fLaC"), FileBytes(b"more"), End()]


def test_a_wav_that_ends_inside_its_header_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="inside its header"):
        feed(wav(PCM)[:30], END)


def test_a_wav_header_without_format_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="no format"):
        feed(b"RIFF\0\0\0\0WAVEdata\0\0\0\0")


def test_a_wav_header_that_never_ends_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="no audio"):
        feed(b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 70000))


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null", "[" * 100000])
def test_text_that_is_no_object_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ProtocolError, match="JSON"):
        FunasrReader().receive_text(text)


@pytest.mark.parametrize(
    "fields",
    [{"mode": "fast"}, {"mode": 7}, {"wav_name": ["a"]}, {"wav_name": "\ud800"}, {"itn": "maybe"}],
)
def test_a_field_of_the_wrong_type_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=next(iter(fields))):
        FunasrReader().receive_text(start(**fields))


def test_an_endless_name_is_refused() -> None:
    with pytest.raises(ProtocolError, match="wav_name"):
        FunasrReader().receive_text(start(wav_name="a" * 3000))
