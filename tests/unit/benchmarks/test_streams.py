"""How many streams a server holds: what is measured before, with little load."""

from __future__ import annotations

import json

import numpy as np
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from benchmarks.stream_protocols import RATE, Plan
from benchmarks.streams import PLACES, calibrate


async def test_a_server_is_calibrated_with_as_many_streams_as_it_takes_easily() -> None:
    open_now, most = 0, 0

    async def serve(request: web.Request) -> web.WebSocketResponse:
        nonlocal open_now, most
        socket = web.WebSocketResponse(protocols=["binary"])
        await socket.prepare(request)
        open_now += 1
        most = max(most, open_now)
        heard = 0
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                heard += len(message.data) // 2
                if heard == RATE // 5:  # the second chunk completes a hop
                    await socket.send_str(json.dumps({"mode": "online", "text": "a"}))
            elif json.loads(message.data).get("is_end"):
                open_now -= 1
                await socket.send_str(json.dumps({"is_end": True}))
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).replace("http", "ws")
        plan = Plan(url, "funasr", "online", 30, 0.3, 0.1, 0.2, 0.0, False, 10.0)
        due = await calibrate(plan, np.zeros(RATE, np.int16), 4)
    assert most == 4
    assert sorted(due) == list(range(PLACES))
    assert all(len(times) == 1 and times[0] >= 0.2 - 1e-6 for times in due.values()), due
