"""config.yaml of a model: read quickly, and hostile ones refused."""

from __future__ import annotations

import pytest

from agent.engine.side_files import read_config
from agent.errors import ManifestError


class Files:
    """A folder with one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, name: str) -> bytes:
        assert name == "config.yaml"
        return self.data

    def graph(self, role: str) -> bytes:
        raise AssertionError(role)


def test_the_mapping_is_read():
    found = read_config(Files("model: CTTransformer\ntoken_list: [<unk>, 中]\n".encode()))
    assert found == {"model": "CTTransformer", "token_list": ["<unk>", "中"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: [", "is not YAML"),
        (b"- a", "is not a mapping"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"a: !!python/object/apply:os.getpid []", "is not YAML"),
        (b"[" * 100_000, "deeper than 64"),
        (b"a: " + b"{a: " * 100_000, "deeper than 64"),
    ],
)
def test_what_is_no_mapping_is_refused(data, said):
    with pytest.raises(ManifestError, match=said):
        read_config(Files(data))
