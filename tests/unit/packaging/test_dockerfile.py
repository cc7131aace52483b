"""The container files are read as an engine reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.containers.dockerfile import command_of, expand, pairs_of, read_dockerfile

TEXT = """\
# a comment
ARG SUITE=trixie
ARG MORE
FROM debian:${SUITE}-slim AS build
RUN one \\
 # a comment between
 && two
copy a b ./

FROM $MORE
COPY --from=build /a /a
CMD ["serve"]
CMD ["serve", "--set", "a=b"]
"""


def test_stages_are_told_apart_and_lines_joined(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT)
    build, last = read_dockerfile(path, {"MORE": "other:1"})
    assert (build.image, build.name) == ("debian:trixie-slim", "build")
    assert [name for name, _ in build.instructions] == ["RUN", "COPY"]
    assert build.last("RUN").split() == ["one", "&&", "two"]
    assert (last.image, last.name) == ("other:1", "")
    assert command_of(last.last("CMD"), []) == ["serve", "--set", "a=b"]
    assert last.last("USER") == ""


def test_a_given_argument_comes_before_the_default(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT)
    assert read_dockerfile(path, {"SUITE": "bookworm"})[0].image == "debian:bookworm-slim"


def test_an_instruction_before_from_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("RUN true\n")
    with pytest.raises(ValueError, match="RUN before the first FROM"):
        read_dockerfile(path, {})


def test_names_are_replaced_and_unknown_ones_empty() -> None:
    assert expand("$A-${B}/$C.", {"A": "1", "B": "2"}) == "1-2/."


def test_a_command_is_a_list_or_a_line_for_the_shell() -> None:
    assert command_of('["a", "b c"]', ["sh", "-c"]) == ["a", "b c"]
    assert command_of("a b", ["sh", "-c"]) == ["sh", "-c", "a b"]


def test_pairs_of_env_may_be_quoted() -> None:
    assert pairs_of('A=1 B="2 3"') == {"A": "1", "B": "2 3"}


@pytest.mark.parametrize("name", ["docker/Dockerfile", "docker/Dockerfile.jetson"])
def test_the_container_files_can_be_read(root: Path, name: str) -> None:
    stages = read_dockerfile(root / name, {"L4T_IMAGE": "nvidia"})
    assert all(stage.image for stage in stages)
    assert stages[-1].last("USER") == "10001"
