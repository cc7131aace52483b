from __future__ import annotations

import pytest

from agent.engine.phrases import MAX_PHRASE_TOKENS, MAX_REASONS, SegDict, Segmenter

TOKENS = ["<blank>", "<s>", "</s>", "阿", "里", "巴", "云", "hel@@", "lo", "the", "x@@", "<unk>"]
SEG_DICT = """\
阿 阿
阿里 阿 里
hello hel@@ lo
odd x@@ nothing
broken

巴\t巴
""".encode()


@pytest.fixture
def segment():
    segmenter = Segmenter(TOKENS, SegDict(SEG_DICT))
    return lambda *phrases: segmenter.segment(phrases)


def test_chinese_goes_by_characters(segment):
    assert segment("阿里巴巴云").rows == ((3, 4, 5, 5, 6),)


def test_english_goes_by_the_pieces_of_seg_dict(segment):
    assert segment("hello").rows == ((7, 8),)


def test_a_word_of_the_vocabulary_needs_no_seg_dict(segment):
    assert segment("the").rows == ((9,),)


def test_a_phrase_of_several_words_is_one_hotword(segment):
    assert segment("the hello 云").rows == ((9, 7, 8, 6),)


def test_case_does_not_matter(segment):
    assert segment("Hello THE").rows == ((7, 8, 9),)


def test_mixed_script_is_taken_apart(segment):
    assert segment("hello云the").rows == ((7, 8, 6, 9),)


def test_what_has_no_token_is_left_out_with_a_reason(segment):
    found = segment("阿鑫里", "云")
    assert found.rows == ((3, 4), (6,))
    assert found.reasons == ("hotword '阿鑫里': used without 鑫, for which the model has no token",)


def test_a_phrase_of_unknown_words_is_left_out_with_a_reason(segment):
    found = segment("qwen 5", "阿")
    assert found.rows == ((3,),)
    assert found.reasons == ("hotword 'qwen 5': left out, the model has no token for qwen, 5",)


def test_a_word_whose_pieces_are_not_all_known_is_left_out(segment):
    assert segment("odd").rows == ()


@pytest.mark.parametrize("token", ["<s>", "</s>", "<blank>", "<unk>"])
def test_special_tokens_are_no_hotwords(segment, token):
    assert segment(token).rows == ()


def test_a_line_without_pieces_is_passed_over(segment):
    assert segment("broken").rows == ()


def test_long_phrases_are_kept_up_to_a_limit(segment):
    found = segment("阿" * MAX_PHRASE_TOKENS, "阿" * (MAX_PHRASE_TOKENS + 1))
    assert found.rows == ((3,) * MAX_PHRASE_TOKENS,)
    assert "longer than 64 tokens" in found.reasons[0]
    assert len(found.reasons[0]) < 200


def test_many_reasons_are_counted(segment):
    reasons = segment(*[f"鑫{i}" for i in range(1000)]).reasons
    assert len(reasons) == MAX_REASONS + 1
    assert reasons[-1] == "and 990 more hotwords likewise"


def test_an_empty_phrase_is_nothing(segment):
    assert segment("", "  ").rows == ()


def test_without_seg_dict_the_vocabulary_serves():
    found = Segmenter(TOKENS, SegDict()).segment(["阿里 the", "hello"])
    assert found.rows == ((3, 4, 9),)
    assert len(found.reasons) == 1


def test_the_last_of_two_lines_for_a_word_holds_as_in_funasr():
    assert SegDict(b"a x\na y z\n").find(["a"]) == {"a": ("y", "z")}


def test_a_seg_dict_that_is_no_text_finds_nothing():
    assert SegDict(b"\xff\xfe\x00\n\xff \xff\n").find(["a", "阿"]) == {}
