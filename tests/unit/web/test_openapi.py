"""/openapi.json is held to the routes, and hostile requests made from it never make a 5xx."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.web.openapi import SOCKETS, rest_routes
from agent.web.openapi_details import DETAILS
from tests.unit.web.conftest import Box

EXAMPLES = 15
"""Requests that are made up for each operation."""


async def told(box: Box) -> dict[str, Any]:
    answer = await box.client.get("/openapi.json")
    assert answer.status == 200
    return await answer.json()  # type: ignore[no-any-return]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [ref for inner in value.values() for ref in references(inner)]
    return [ref for inner in value for ref in references(inner)] if isinstance(value, list) else []


async def test_every_rest_route_is_described_and_nothing_else(box: Box) -> None:
    routes = {(method, path) for method, path, _ in rest_routes(box.client.server.app)}
    described = {
        (method.upper(), path)
        for path, operations in (await told(box))["paths"].items()
        for method in operations
    }
    assert described == routes
    undescribed = sorted(routes - set(DETAILS))
    assert undescribed == [], "add them to agent/web/openapi_details.py"
    assert sorted(set(DETAILS) - routes) == [], "these routes are gone"


async def test_the_sockets_that_are_left_out_are_there(box: Box) -> None:
    paths = {r.resource.canonical for r in box.client.server.app.router.routes() if r.resource}
    assert set(SOCKETS) <= paths


async def test_operations_are_whole(box: Box) -> None:
    document = await told(box)
    operations = [o for path in document["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    for operation in operations:
        assert len(operation["summary"]) > 8
        assert {"4XX", "5XX"} & set(operation["responses"])
    schemas = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in references(document)} == set(schemas)


async def test_the_page_of_the_api_is_on_the_box(box: Box) -> None:
    answer = await box.client.get("/docs")
    assert answer.content_type == "text/html"
    assert "http" not in (await answer.text()).replace("/openapi.json", "")


@pytest.mark.timeout(180)
async def test_made_up_requests_never_make_an_error_of_the_agent(box: Box, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="the package schemathesis is not installed")
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("fuzz_openapi.py")),
        str(box.client.make_url("")).rstrip("/"),
        str(EXAMPLES),
        str(report),
    )
    assert await process.wait() == 0
    found = json.loads(report.read_text())
    assert found["errors"] == []
    assert found["requests"] > EXAMPLES * 5
    assert len(found["operations"]) == len(DETAILS)
