"""The device's configuration is config.yaml, but for its listeners and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config, is_loopback
from agent.config_loader import load_config
from scripts.deb.conffile import PATHS, Listener, device_config


@pytest.fixture
def text(root: Path) -> str:
    return (root / "config.yaml").read_text(encoding="utf-8")


def loaded(folder: Path, text: str, *settings: str) -> Config:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, {"PATH": ""}, settings)


def test_the_device_serves_page_api_and_clients_with_and_without_tls(
    tmp_path: Path, text: str
) -> None:
    config = loaded(tmp_path, device_config(text))
    found = [(item.port, item.tls) for item in config.listen]
    assert found == [(8080, False), (8443, True), (10095, True), (10096, False)]


def test_nothing_is_open_to_the_network_without_access_control(tmp_path: Path, text: str) -> None:
    config = loaded(tmp_path, device_config(text))
    assert config.auth.mode == "token"
    assert all(is_loopback(item.host) for item in config.listen)


def test_state_sockets_and_models_lie_where_the_package_has_them(tmp_path: Path, text: str) -> None:
    config = loaded(tmp_path, device_config(text))
    assert str(config.state_dir) == PATHS["state_dir"] == "/var/lib/funasr-agent"
    assert str(config.run_dir) == PATHS["run_dir"] == "/run/funasr-agent"
    assert str(config.models.dir) == PATHS["models.dir"] == "/usr/lib/funasr-agent/models"


def test_every_other_value_is_the_default(tmp_path: Path, text: str) -> None:
    device = loaded(tmp_path, device_config(text)).model_dump()
    default = Config().model_dump()
    for tree in (device, default):
        for key in ("listen", "state_dir", "run_dir"):
            del tree[key]
        del tree["models"]["dir"]
    assert device == default


def test_every_comment_that_explains_a_key_is_kept(text: str) -> None:
    made = device_config(text)
    assert "null: models/ beside the agent" in made
    before = [line for line in text.splitlines() if "  # " in line]
    after = set(device_config(text).splitlines())
    assert sum(line not in after for line in before) == 3 + len(PATHS)


def test_an_image_gives_its_own_listeners_and_values(tmp_path: Path, text: str) -> None:
    listeners = (Listener(80, False, "sends browsers to 443", host="::1"), Listener(443, True, "."))
    made = device_config(text, listeners, {**PATHS, "logging.format": "ecs", "models.vad": "[a]"})
    config = loaded(tmp_path, made)
    assert [(item.host, item.port) for item in config.listen] == [("::1", 80), ("127.0.0.1", 443)]
    assert config.logging.format == "ecs"
    assert config.models.vad == ["a"]


@pytest.mark.parametrize("key", ["nothing", "models.nothing", "nothing.dir", "dir"])
def test_a_key_that_the_file_lacks_stops_the_build(text: str, key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} 0 times"):
        device_config(text, values={key: "1"})


def test_a_file_without_listeners_stops_the_build(text: str) -> None:
    with pytest.raises(ValueError, match="listen 0 times"):
        device_config(text.replace("listen:", "listeners:"))
