"""Whatever is done to an installed model, it is refused at its level, the embedded one serves in
its place, and the running agent says so. The table at the end of the run lists every case."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.store.trust import generate_key, sign
from tests.end_to_end.daemon import Daemon

from .graphs import tiny_paraformer, tiny_vad
from .tables import add_row
from .tiny_models import Files, asr_files, manifest_bytes, tone_wav, vad_files

Spoil = Callable[[Path], object]
TABLE = "tampering: what is done -> level, error code, what serves"


def nothing(folder: Path) -> None:
    """The model is built wrong; nothing is done to it afterwards."""


def flip(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return spoil


def truncate(folder: Path) -> None:
    os.truncate(folder / "model.onnx", 100)


def remove_tokens(folder: Path) -> None:
    (folder / "tokens.json").unlink()


def swap(folder: Path) -> None:
    a, b = folder / "am.mvn", folder / "config.yaml"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


def link(folder: Path) -> None:
    (folder / "am.mvn").rename(folder.parent.parent / "elsewhere.mvn")
    (folder / "am.mvn").symlink_to(folder.parent.parent / "elsewhere.mvn")


def sign_by_a_stranger(folder: Path) -> None:
    state = folder.parent.parent
    generate_key(state / "stranger.key", state / "stranger.pub")
    signature = sign((folder / "manifest.yaml").read_bytes(), state / "stranger.key")
    (folder / "manifest.yaml.sig").write_bytes(signature)


def escaping_manifest(files: Files) -> bytes:
    tree = yaml.safe_load(manifest_bytes("lab", files))
    tree["files"]["../../secret"] = {"size": 1, "sha256": "0" * 64}
    return yaml.safe_dump(tree).encode()


@dataclass(frozen=True)
class Case:
    done: str
    level: str
    code: str
    says: str
    """Part of the message."""
    files: Files = field(default_factory=asr_files)
    spoil: Spoil = nothing
    more: dict[str, Any] = field(default_factory=dict)
    manifest: bytes = b""
    trusted: bool = False


GOLDEN = {"golden.wav": tone_wav()}
CASES = [
    Case("a byte of the weights is flipped", "integrity", "integrity", "model.onnx: sha256 is",
         spoil=flip("model.onnx")),
    Case("a byte of tokens.json is flipped", "integrity", "integrity", "tokens.json: sha256 is",
         spoil=flip("tokens.json")),
    Case("a byte of manifest.yaml is flipped", "integrity", "integrity", "the folder's name says",
         spoil=lambda folder: (folder / "manifest.yaml").write_bytes(
             (folder / "manifest.yaml").read_bytes().replace(b"license: none", b"license: nonf"))),
    Case("the weights are truncated", "integrity", "integrity", "model.onnx: size is 100",
         spoil=truncate),
    Case("a file is missing", "integrity", "integrity", "tokens.json: is missing",
         spoil=remove_tokens),
    Case("two files are swapped", "integrity", "integrity", "am.mvn", spoil=swap),
    Case("a file is a link to elsewhere", "integrity", "bad_manifest", "symbolic link", spoil=link),
    Case("the manifest lists a file outside", "integrity", "bad_manifest", "leaves the model",
         manifest=escaping_manifest(asr_files())),
    Case("not signed, though keys are trusted", "integrity", "signature", "is not signed",
         trusted=True),
    Case("signed by a stranger", "integrity", "signature", "not by a trusted key",
         spoil=sign_by_a_stranger, trusted=True),
    Case("the graph is not ONNX", "compatibility", "compatibility", "not an ONNX graph",
         asr_files(model_onnx=b"\x00not a graph" * 20)),
    Case("an unknown operator", "compatibility", "compatibility", "Frobnicate",
         vad_files(model_onnx=tiny_vad(op="Frobnicate"))),
    Case("an opset of the future", "compatibility", "compatibility", "opset 99",
         vad_files(model_onnx=tiny_vad(opset=99))),
    Case("an input of another name", "compatibility", "compatibility", "has no input speech",
         vad_files(model_onnx=tiny_vad(input_name="sound"))),
    Case("tokens of another number", "compatibility", "compatibility", "the graph puts out 5",
         asr_files(model_onnx=tiny_paraformer(tokens=5))),
    Case("an ONNX Runtime of the future", "compatibility", "compatibility", ">=99",
         more={"requires": {"onnxruntime": ">=99", "memory_mb": 1}}),
    Case("am.mvn is not one", "integrity", "bad_manifest", "am.mvn",
         asr_files(am_mvn=b"<Nnet>")),
    Case("weights are NaN", "function", "inference", "not a number",
         vad_files(model_onnx=tiny_vad(slope=float("nan")))),
    Case("weights that hear speech in silence", "function", "golden_mismatch", "finds speech",
         vad_files(model_onnx=tiny_vad(slope=0.0))),
    Case("weights that fire all the time", "function", "golden_mismatch", "tokens",
         asr_files(model_onnx=tiny_paraformer(frames_a_token=0.2))),
    Case("the golden text is another", "function", "golden_mismatch", "its maker recorded 'abc'",
         {**asr_files(), **GOLDEN}, more={"golden": {"audio": "golden.wav", "text": "abc"}}),
    Case("the golden segments are others", "function", "golden_mismatch", "its maker recorded",
         {**vad_files(), **GOLDEN},
         more={"golden": {"audio": "golden.wav", "segments": [[10, 90]], "tolerance_ms": 50}}),
]  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[Case], tuple[Path, str]]:
    """Puts a case's model into the state folder as the installer would, chosen for its role."""

    def install(case: Case) -> tuple[Path, str]:
        manifest = case.manifest or manifest_bytes("lab", case.files, **case.more)
        name = f"lab@{hashlib.sha256(manifest).hexdigest()[:8]}"
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        for file, data in case.files.items():
            (folder / file).write_bytes(data)
        (folder / "manifest.yaml").write_bytes(manifest)
        role = "asr_offline" if "tokens.json" in case.files else "vad"
        (tmp_path / "roles.yaml").write_text(f"{role}: {{model: {name}}}\n")
        return folder, role

    return install


def settings(tmp_path: Path, case: Case) -> list[str]:
    if not case.trusted:
        return []
    generate_key(tmp_path / "own.key", tmp_path / "own.pub")
    return [f"models.trusted_keys=[{tmp_path / 'own.pub'}]"]


def test_a_sound_model_serves(
    installed: Callable[[Case], tuple[Path, str]], tmp_path: Path
) -> None:
    """The cases below say nothing if the small model would be refused as it is."""
    installed(Case("nothing", "", "", "", {**asr_files(), **GOLDEN}))
    with Daemon(tmp_path) as daemon:
        row = next(r for r in daemon.get("/api/v1/status")[1]["models"] if r["id"] == "lab")
        assert (row["role"], row["refused"]) == ("asr_offline", [])
        assert daemon.get("/health")[1]["status"] == "ok"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.done)
def test_a_spoiled_model_is_refused_and_the_embedded_one_serves(
    case: Case, installed: Callable[[Case], tuple[Path, str]], tmp_path: Path
) -> None:
    folder, role = installed(case)
    case.spoil(folder)
    with Daemon(tmp_path, *settings(tmp_path, case)) as daemon:
        row = next(r for r in daemon.get("/api/v1/status")[1]["models"] if r["role"] == role)
        health = daemon.get("/health")
        log = daemon.log()
    serves = {"vad": "builtin-vad", "asr_offline": "builtin-offline"}[role]
    assert row["id"] == serves
    (refused,) = row["refused"]
    assert (refused["level"], refused["code"]) == (case.level, case.code)
    assert case.says in refused["message"]
    assert "Traceback" not in log
    assert "refused lab" in log
    assert (health[0], health[1]["status"]) == (200, "degraded")
    check = next(c for c in health[1]["checks"] if c["name"] == f"model_{role}")
    assert case.says in check["reason"]
    assert f"level: {case.level}" in check["reason"]
    add_row(TABLE, (case.done, case.level, case.code, serves))
