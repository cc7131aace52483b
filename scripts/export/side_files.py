"""tokens.json, am.mvn, seg_dict and the sentencepiece model beside an architecture's weights."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

from .architectures import Architecture, Config
from .configuration import SMALL_TOKENS

TOKENS = "tokens.json"
STATISTICS = "am.mvn"
SEG_DICT = "seg_dict"
PIECES = "chn_jpn_yue_eng_ko_spectok.bpe.model"
TEXTS = (
    "今天天气很好我们一起去公园散步吧你觉得怎么样如果下雨就改天再去",
    "语音识别系统把说话的声音变成文字再加上标点这样读起来就容易多了",
    "请问火车站怎么走先往前走五百米然后左转看到红色的大楼就到了谢谢不客气",
    "他喜欢苹果香蕉橙子和葡萄可是妹妹只喜欢西瓜你呢我什么水果都爱吃",
)
"""Speech without marks."""
_COMPOUND_WORDS = 3000
_TAG = re.compile(r"<\|(?!SPECIAL_TOKEN).*\|>")


class ExportError(Exception):
    """What keeps a model from being exported, and what to do."""


def write_side_files(
    architecture: Architecture, config: Config, configs: Path, folder: Path, *, small: bool
) -> None:
    """Write them and configuration.json, which tells FunASR where they are.

    Raises ExportError when `configs` lacks one.
    """
    source = configs / architecture.source
    if not source.is_dir():
        source = configs.parent / "models" / architecture.source
    if "frontend" in config:
        shutil.copyfile(_found(source, STATISTICS), folder / STATISTICS)
    if config.get("tokenizer") == "SentencepiecesTokenizer":
        _write_pieces(source, folder, small)
    elif "tokenizer" in config:
        tokens = json.loads(_found(source, TOKENS).read_text("utf-8"))
        if small:
            tokens = _few(tokens)
            _write_json(folder / TOKENS, tokens)
        else:
            shutil.copyfile(source / TOKENS, folder / TOKENS)
        if architecture.hotwords:
            (folder / SEG_DICT).write_text(_seg_dict(tokens), "utf-8")
    _write_json(folder / "configuration.json", _configuration(folder))


def _found(source: Path, name: str) -> Path:
    if not (source / name).is_file():
        raise ExportError(f"{source / name} is missing; name the folder that has it with --configs")
    return source / name


def _write_json(path: Path, tree: object) -> None:
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _configuration(folder: Path) -> dict[str, object]:
    tokenizer = {"token_list": TOKENS, "seg_dict_file": SEG_DICT}
    if (folder / PIECES).exists():
        tokenizer = {"bpemodel": PIECES}
    paths: dict[str, object] = {"init_param": "model.pt", "config": "config.yaml"}
    present = {key: name for key, name in tokenizer.items() if (folder / name).exists()}
    if present:
        paths["tokenizer_conf"] = present
    if (folder / STATISTICS).exists():
        paths["frontend_conf"] = {"cmvn_file": STATISTICS}
    return {"framework": "pytorch", "model": {"type": "funasr"}, "file_path_metas": paths}


def _few(tokens: list[str]) -> list[str]:
    """A small vocabulary: the special tokens in their places, the characters of our own texts,
    and others spread evenly over the list."""
    wanted = {*"".join(TEXTS)} & {*tokens}
    rest = [token for token in tokens[3:-1] if token not in wanted]
    room = SMALL_TOKENS - 4 - len(wanted)
    wanted.update(rest[:: len(rest) // room][:room])
    return [*tokens[:3], *(token for token in tokens[3:-1] if token in wanted), tokens[-1]]


def _seg_dict(tokens: list[str]) -> str:
    """A synthetic dictionary in the published form: a word, then its pieces.

    Every whole token is its own entry; words made of two or three pieces are drawn by a fixed
    seed, so that hotwords which are no token of their own can be spelled.
    """
    whole = [t for t in tokens if not t.endswith("@@") and not t.startswith("<")]
    entries = {word: word for word in whole}
    heads = sorted(t for t in tokens if t.endswith("@@"))
    tails = sorted(t for t in whole if t.isascii() and t.isalpha() and len(t) > 1)
    rng = random.Random(0)
    for _ in range(_COMPOUND_WORDS if heads and tails else 0):
        pieces = [*rng.sample(heads, k=min(len(heads), rng.choice((1, 1, 2)))), rng.choice(tails)]
        entries.setdefault("".join(piece.removesuffix("@@") for piece in pieces), " ".join(pieces))
    return "".join(f"{word}\t{pieces}\n" for word, pieces in entries.items())


def _write_pieces(source: Path, folder: Path, small: bool) -> None:
    data = _found(source, PIECES).read_bytes()
    if small:
        from sentencepiece import sentencepiece_model_pb2

        model = sentencepiece_model_pb2.ModelProto.FromString(data)
        tags = [piece for piece in model.pieces if _TAG.fullmatch(piece.piece)]
        others = [p for p in list(model.pieces)[3:] if not p.piece.startswith("<|")]
        step = len(others) // (SMALL_TOKENS - 3 - len(tags))
        some = others[::step][: SMALL_TOKENS - 3 - len(tags)]
        kept = [*list(model.pieces)[:3], *some, *tags]
        kept = [type(kept[0]).FromString(piece.SerializeToString()) for piece in kept]
        del model.pieces[:]
        model.pieces.extend(kept)
        (folder / PIECES).write_bytes(model.SerializeToString())
        _write_json(folder / TOKENS, [piece.piece for piece in kept])
    else:
        (folder / PIECES).write_bytes(data)
        shutil.copyfile(_found(source, TOKENS), folder / TOKENS)
