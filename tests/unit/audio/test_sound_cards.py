"""Stable names of sound cards."""

from __future__ import annotations

from pathlib import Path

from agent.audio.sound_cards import RootFiles, cards_signature, find_captures, stable_id


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_usb_microphone_is_named_by_its_port(tmp_path: Path) -> None:
    interface = tmp_path / "sys/devices/pci0/usb1/1-1/1-1.4/1-1.4:1.0"
    interface.mkdir(parents=True)
    card = tmp_path / "sys/class/sound/card2"
    card.mkdir(parents=True)
    (card / "device").symlink_to(interface)
    put(tmp_path, "proc/asound/card2/id", "USB\n")
    assert stable_id(RootFiles(tmp_path), 2, 0) == "usb:1-1.4,0"


def test_another_card_is_named_by_its_id(tmp_path: Path) -> None:
    put(tmp_path, "proc/asound/card0/id", "PCH\n")
    assert stable_id(RootFiles(tmp_path), 0, 1) == "card:PCH,1"
    assert stable_id(RootFiles(tmp_path), 7, 0) == "card:7,0"


def test_a_card_that_comes_changes_the_signature(tmp_path: Path) -> None:
    files = RootFiles(tmp_path)
    before = cards_signature(files)
    put(tmp_path, "proc/asound/cards", " 0 [USB ]: USB-Audio\n")
    assert cards_signature(files) != before


def test_a_capture_device_has_its_numbers(tmp_path: Path) -> None:
    put(tmp_path, "proc/asound/card1/pcm3c/info", "name: USB Audio\n")
    put(tmp_path, "proc/asound/card1/id", "Mini\n")
    (found,) = find_captures(RootFiles(tmp_path))
    assert (found.card, found.number, found.name) == (1, 3, "Mini (USB Audio)")
    assert (found.device, found.holder) == ("dev/snd/pcmC1D3c", None)
