"""Options and fixtures of every test."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.model_loading.tables import TABLES, lines

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, and programs that the
    tests start and interrupt would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        return
    skip = pytest.mark.skip(reason="a long run: add --soak")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have gathered for people to read."""
    for title, rows in TABLES.items():
        terminalreporter.section(title)
        for line in lines(rows):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data beside the checkout; the test is skipped where it is missing."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with test data is not there")
    return folder
