from __future__ import annotations

import pkgutil

import pytest

import agent.engine.families as package
from agent.engine.base import EngineSettings
from agent.engine.families import families, load_model
from agent.errors import ManifestError
from tests.unit.engine.graphs import Files

FILES = sorted(entry.name for entry in pkgutil.iter_modules(package.__path__))


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_folder_is_a_family(name):
    family = families()[name]
    assert family.name == name
    assert family.task in {"vad", "asr_online", "asr_offline", "punctuation"}
    assert family.graphs[0] == "model"
    assert callable(family.load)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("config", [b"[1, 2]", b"a: [", b"\x00"])
def test_every_family_refuses_a_malformed_config(name, config):
    files = Files({"config.yaml": config, "tokens.json": b'["a"]', "am.mvn": b""}, {"model": b""})
    with pytest.raises(ManifestError):
        load_model(name, files, EngineSettings())


def test_unknown_family_names_the_known_ones():
    with pytest.raises(ManifestError, match="paraformer_online"):
        load_model("whisper", Files({}, {}), EngineSettings())
