"""The embedded vocabulary: commands, slots, pinyin, the token list, and sampling of sentences."""

# ruff: noqa: SIM905

from __future__ import annotations

import random
import re
from collections.abc import Callable

DIGITS_ZH = "零一二三四五六七八九"
DIGITS_EN = "zero one two three four five six seven eight nine".split()

COMMANDS_ZH = """
打开灯 关闭灯 打开客厅的灯 关闭客厅的灯 打开卧室的灯 关闭卧室的灯 打开空调 关闭空调 打开窗帘
关闭窗帘 打开电视 关闭电视 打开风扇 关闭风扇 调高音量 调低音量 播放音乐 暂停播放 继续播放 停止播放
上一首 下一首 开始录音 停止录音 现在几点 今天天气怎么样 明天天气怎么样 取消闹钟 打电话 挂断电话
你好小云 小云小云 你好 谢谢 再见 是 不是 好 确定 取消 返回 向前 向后 向左转 向右转 停止 快一点
慢一点 拍照 开门 关门 开机 关机 重启 静音 帮助
""".split()

# Words that only the human recordings (DSPSpeech-20) have.
HUMAN_ZH = "数字 语音 语言 识别 中国 总工 北京 背景 上海 商行 复旦 饭店".split()
HUMAN_EN = "open close print process project signal speaker speech".split()

# {N}: a number from 1 to 99; {D}: three to eleven digits.
SLOTS_ZH = [
    "音量调到{N}",
    "温度调到{N}度",
    "把温度调到{N}度",
    "设置{N}分钟闹钟",
    "把音量调到百分之{N}",
    "拨打{D}",
    "打开{N}",
]

COMMANDS_EN = [
    "turn on the light", "turn off the light", "turn on the fan", "turn off the fan",
    "volume up", "volume down", "play music", "pause", "stop", "next", "previous",
    "start recording", "stop recording", "what time is it", "hello", "yes", "no",
    "open the door", "close the door", "go forward", "go back", "turn left", "turn right",
    "take a photo", "cancel", "reboot", "help", "mute", "thank you",
]  # fmt: skip

# Words from which random Mandarin strings are drawn, so that the models do not only learn
# whole sentences by heart. Homophones stay inside the words that tell them apart.
WORDS_ZH = """
打开 关闭 客厅的灯 卧室的灯 空调 窗帘 电视 风扇 调高 调低 音量 播放 音乐 暂停 继续 停止 上一首
下一首 开始 录音 现在 几点 今天 明天 天气 怎么样 取消 闹钟 电话 挂断 拨打 小云 谢谢 再见 确定 返回
向前 向后 左转 右转 拍照 开门 关门 开机 关机 重启 静音 帮助 设置 温度 分钟 百分之 快一点 慢一点
""".split()

_PINYIN = """
零ling2 一yi1 二er4 三san1 四si4 五wu3 六liu4 七qi1 八ba1 九jiu3 十shi2 百bai3 点dian3 幺yao1
打da3 开kai1 关guan1 闭bi4 灯deng1 客ke4 厅ting1 卧wo4 室shi4 的de5 空kong1 调tiao2 窗chuang1
帘lian2 电dian4 视shi4 风feng1 扇shan4 高gao1 低di1 音yin1 量liang4 到dao4 温wen1 度du4 把ba3
播bo1 放fang4 乐yue4 暂zan4 停ting2 继ji4 续xu4 止zhi3 上shang4 下xia4 首shou3 始shi3 录lu4
现xian4 在zai4 几ji3 今jin1 天tian1 气qi4 怎zen3 么me5 样yang4 明ming2 设she4 置zhi4 分fen1
钟zhong1 闹nao4 取qu3 消xiao1 话hua4 挂gua4 断duan4 拨bo1 你ni3 好hao3 小xiao3 云yun2 谢xie4
再zai4 见jian4 是shi4 不bu4 确que4 定ding4 返fan3 回hui2 向xiang4 前qian2 后hou4 左zuo3 右you4
转zhuan3 快kuai4 慢man4 拍pai1 照zhao4 门men2 机ji1 重chong2 启qi3 静jing4 帮bang1 助zhu4 之zhi1
数shu4 字zi4 语yu3 言yan2 识shi2 别bie2 中zhong1 国guo2 总zong3 工gong1 北bei3 京jing1 背bei4
景jing3 海hai3 商shang1 行hang2 复fu4 旦dan4 饭fan4 店dian4
""".split()

PINYIN: dict[str, str] = {item[0]: item[1:] for item in _PINYIN}

ENGLISH_WORDS = sorted(
    {word for text in COMMANDS_EN for word in text.split()} | set(DIGITS_EN) | set(HUMAN_EN)
)

BLANK, SOS, EOS = 0, 1, 2
TOKENS: list[str] = ["<blank>", "<s>", "</s>", *PINYIN, *ENGLISH_WORDS, "<unk>"]
TOKEN_ID: dict[str, int] = {token: index for index, token in enumerate(TOKENS)}

# Speech that is not to be understood: syllables and words outside the vocabulary.
_FOREIGN_PINYIN = """
ai an ao bang beng bian bin cai cao ce cha chen cheng chi chou cu cuo dai deng dong dou fa fei
fou gai gan gei gou gu han hei hen heng huan huang hun huo jia jiang jue jun kan kao ken kou ku
kun lai lan lao le lei leng li lin long lou luan lun luo lv mai mang mao mei meng mi miao mo mu
na nan nei neng nian niu nong nuo nv ou pan peng pi pin ping po pu qiang qiu quan qun ran rang
ren reng ri rong ruan run sai san se sen seng song su sui sun suo ta tai tan tang tao te teng ti
tong tou tu tui tun tuo wai wan wang wei wen xi xiong xiu xuan xue xun ya yong yuan za zei zen
zha zhai zhan zheng zhou zhu zhuan zhun zhuo zou zu zui zun
""".split()
_KNOWN_BASES = {p.rstrip("12345") for p in PINYIN.values()}
FOREIGN_PINYIN = [p for p in _FOREIGN_PINYIN if p not in _KNOWN_BASES]

FOREIGN_WORDS = """
about after again always animal another because before between book bread brother building
business car children church city coffee colour computer country cousin daughter different dinner
dream early earth evening family father finger flower friend garden government green happy
hospital house hundred kitchen language letter library machine market marriage memory million
minute money morning mother mountain music nature never newspaper number ocean office orange
paper parents people person picture pleasure police problem purple question rabbit raining
reason remember restaurant river school science season second shoulder silver simple sister
something somewhere spring station story strange student summer sunday system teacher theatre
together tomorrow travel uncle university vegetable village weather wednesday welcome window
winter without wonderful worker yellow yesterday
""".split()


_TOKEN = re.compile(r"[a-z']+|[^\sa-z']")


def tokens_of(text: str) -> list[str]:
    """Split a transcript into tokens: each Han character alone, English by word, lower case."""
    return _TOKEN.findall(text.lower())


def number_zh(number: int) -> str:
    """Write 0 to 99 in Chinese numerals."""
    if number < 10:
        return DIGITS_ZH[number]
    tens, units = divmod(number, 10)
    return ("" if tens == 1 else DIGITS_ZH[tens]) + "十" + (DIGITS_ZH[units] if units else "")


def _fill(template: str, rng: random.Random) -> str:
    digits = "".join(rng.choice(DIGITS_ZH) for _ in range(rng.randint(3, 11)))
    return template.format(N=number_zh(rng.randint(1, 99)), D=digits)


def _digit_string(rng: random.Random) -> str:
    alphabet = DIGITS_ZH + ("幺" if rng.random() < 0.3 else "")
    count = rng.choice([1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 11])
    return "".join(rng.choice(alphabet) for _ in range(count))


def sample_zh(rng: random.Random) -> tuple[str, str]:
    """Draw a Mandarin sentence; return (kind, text)."""
    draw = rng.random()
    if draw < 0.26:
        return "digits", _digit_string(rng)
    if draw < 0.54:
        return "command", rng.choice(COMMANDS_ZH)
    if draw < 0.62:
        return "human-word", rng.choice(HUMAN_ZH)
    if draw < 0.83:
        return "slot", _fill(rng.choice(SLOTS_ZH), rng)
    if draw < 0.91:
        return "pair", rng.choice(COMMANDS_ZH) + rng.choice(COMMANDS_ZH)
    return "words", "".join(rng.choice(WORDS_ZH) for _ in range(rng.randint(1, 3)))


def sample_en(rng: random.Random) -> tuple[str, str]:
    """Draw an English sentence; return (kind, text)."""
    draw = rng.random()
    if draw < 0.34:
        count = rng.choice([1, 1, 1, 2, 3, 4, 5, 6])
        return "digits", " ".join(rng.choice(DIGITS_EN) for _ in range(count))
    if draw < 0.74:
        return "command", rng.choice(COMMANDS_EN)
    if draw < 0.86:
        return "human-word", rng.choice(HUMAN_EN)
    return "words", " ".join(rng.choice(ENGLISH_WORDS) for _ in range(rng.randint(1, 4)))


def sample_more_zh(rng: random.Random) -> tuple[str, str]:
    """Draw for training: like `sample_zh`, with more free combinations and longer utterances."""
    draw = rng.random()
    if draw < 0.10:
        return "words", "".join(rng.choice(WORDS_ZH) for _ in range(rng.randint(1, 4)))
    if draw < 0.16:
        parts = [rng.choice(COMMANDS_ZH), _fill(rng.choice(SLOTS_ZH), rng)]
        rng.shuffle(parts)
        return "pair", "".join(parts)
    return sample_zh(rng)


def sample_more_en(rng: random.Random) -> tuple[str, str]:
    """Draw for training: like `sample_en`, with more free combinations and longer utterances."""
    draw = rng.random()
    if draw < 0.28:
        return "words", " ".join(rng.choice(ENGLISH_WORDS) for _ in range(rng.randint(1, 5)))
    if draw < 0.33:
        return "pair", f"{rng.choice(COMMANDS_EN)} {rng.choice(COMMANDS_EN)}"
    return sample_en(rng)


def _sample_foreign_zh(rng: random.Random) -> str:
    return " ".join(
        f"{rng.choice(FOREIGN_PINYIN)}{rng.randint(1, 4)}" for _ in range(rng.randint(3, 12))
    )


def _sample_foreign_en(rng: random.Random) -> str:
    return " ".join(rng.choice(FOREIGN_WORDS) for _ in range(rng.randint(2, 8)))


FOREIGN: dict[str, Callable[[random.Random], str]] = {
    "zh": _sample_foreign_zh,
    "en": _sample_foreign_en,
}


def pinyin_of(tokens: list[str], rng: random.Random) -> str:
    """Spell Han characters in pinyin for espeak-ng, sometimes joined into words of 1 to 3."""
    syllables = [PINYIN[token] for token in tokens]
    if rng.random() < 0.6:
        return " ".join(syllables)
    words: list[str] = []
    start = 0
    while start < len(syllables):
        length = rng.choice([1, 2, 2, 3])
        words.append("".join(syllables[start : start + length]))
        start += length
    return " ".join(words)
