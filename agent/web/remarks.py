"""What the models can't honour of a stream's options: said, never silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from agent.said import by_code, say
from agent.types import ModelSet, RecognitionMode, StreamOptions
from agent.web.context import WebContext

_log = logging.getLogger(__name__)


async def tell_remarks(
    context: WebContext, session_id: str, options: StreamOptions, mode: RecognitionMode
) -> tuple[str, ...]:
    """The remarks on a stream that was opened in `mode`, logged and published as an event."""
    models = context.service.models
    if models is None or not options.hotwords:
        return ()
    found = await asyncio.to_thread(remarks_of, models, options, mode)
    for remark in found:
        _log.info("%s", remark, extra={"session_id": session_id})
    if found:
        context.hub.publish("remarks", {"session_id": session_id, **remarks_fields(found)})
    return found


def remarks_fields(remarks: Sequence[str]) -> dict[str, Any]:
    """JSON fields: the remarks in English, and by code and values; nothing where there are none."""
    if not remarks:
        return {}
    return {"remarks": list(remarks), "said": [by_code(remark) for remark in remarks]}


def remarks_of(models: ModelSet, options: StreamOptions, mode: RecognitionMode) -> tuple[str, ...]:
    """What can't be honoured. May read a dictionary: not for the event loop."""
    if not options.hotwords:
        return ()
    if mode is RecognitionMode.ONLINE or models.offline is None:
        ignored = "hotwords are ignored: the streaming recogniser takes none"
        return (say("hotwords_online", ignored),)
    found = models.offline.remarks(options)
    if models.offline.can_bias and mode is RecognitionMode.TWO_PASS:
        only = "hotwords change the finals; partials are read without them"
        return (*found, say("hotwords_finals", only))
    return found
