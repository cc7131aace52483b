"""The container files: linted, and what they set is what the agent reads."""

from __future__ import annotations

import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config_loader import load_config

FILES = ("docker/Dockerfile", "docker/Dockerfile.jetson")
USER_ID = 10001


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, of the last stage."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, arguments = line.partition(" ")
        found.append((name, arguments.strip()))
    stages = [i for i, (name, _) in enumerate(found) if name == "FROM"]
    return found[stages[-1] :]


def environment(path: Path) -> dict[str, str]:
    pairs = [shlex.split(args) for name, args in instructions(path) if name == "ENV"]
    return dict(pair.split("=", 1) for args in pairs for pair in args)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (Path(__file__).parents[3] / "docker" / "compose.yaml").read_text()
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(root: Path, name: str) -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: its wheel is for x86-64 only")
    command = [hadolint, "--no-color", "-c", "docker/hadolint.yaml", name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("name", FILES)
def test_the_agent_runs_without_rights_and_tells_its_health(root: Path, name: str) -> None:
    last = dict(instructions(root / name))
    assert last["USER"] == str(USER_ID)
    assert "http://127.0.0.1:8080/readyz" in last["HEALTHCHECK"]
    assert last["ENTRYPOINT"] == '["funasr-agent"]'


@pytest.mark.parametrize("name", FILES)
def test_what_the_image_sets_is_what_the_agent_reads(root: Path, name: str) -> None:
    environ = environment(root / name)
    config = load_config(root / "config.yaml", environ)
    assert str(config.state_dir) == "/var/lib/funasr-agent"
    assert str(config.run_dir) == "/run/funasr-agent"
    assert str(config.models.dir) == "/opt/funasr-agent/models"
    assert environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert environ["FUNASR_AGENT_CONFIG"] == "/etc/funasr-agent/config.yaml"


def test_both_images_set_the_same_but_for_the_path(root: Path) -> None:
    one, two = (environment(root / name) for name in FILES)
    assert one | {"PATH": ""} == two | {"PATH": ""}


@pytest.mark.parametrize("name", FILES)
def test_everything_that_is_copied_is_in_the_context(root: Path, name: str) -> None:
    kept = re.findall(r"^!(.+)$", (root / ".dockerignore").read_text(), re.MULTILINE)
    for line in (root / name).read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert source in kept
                assert (root / source).exists()


@pytest.mark.parametrize("name", ["agent", "jetson"])
def test_a_service_is_read_only_and_without_capabilities(
    compose: dict[str, Any], name: str
) -> None:
    service = compose[name]
    assert service["read_only"] is True
    assert service["user"] == str(USER_ID)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = [entry.split(":")[0] for entry in service["tmpfs"]]
    writable += [entry.split(":")[1] for entry in service["volumes"]]
    assert set(writable) == {"/tmp", "/run/funasr-agent", "/var/lib/funasr-agent", "/dev/snd"}


@pytest.mark.parametrize("name", ["agent", "jetson"])
def test_ports_are_published_on_loopback_only_and_are_listened_to(
    root: Path, compose: dict[str, Any], name: str
) -> None:
    service = compose[name]
    environ = environment(root / FILES[0]) | service["environment"]
    config = load_config(root / "config.yaml", environ)
    listening = {item.port for item in config.listen if item.host == "0.0.0.0"}
    published = [entry.split(":") for entry in service["ports"]]
    assert all(address == "127.0.0.1" for address, _, _ in published)
    assert {int(inside) for _, _, inside in published} == listening


def test_a_service_is_built_from_a_file_that_is_there(root: Path, compose: dict[str, Any]) -> None:
    found = {service["build"]["dockerfile"] for service in compose.values()}
    assert found == set(FILES)
    for service in compose.values():
        folder = root / "docker" / service["build"]["context"]
        assert (folder / service["build"]["dockerfile"]).is_file()
