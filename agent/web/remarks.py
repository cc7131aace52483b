"""What the models can't honour of a stream's options: said, never silent."""

from __future__ import annotations

import asyncio
import logging

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
        context.hub.publish("remarks", {"session_id": session_id, "remarks": list(found)})
    return found


def remarks_of(models: ModelSet, options: StreamOptions, mode: RecognitionMode) -> tuple[str, ...]:
    """What can't be honoured. May read a dictionary: not for the event loop."""
    if not options.hotwords:
        return ()
    if mode is RecognitionMode.ONLINE or models.offline is None:
        return ("hotwords are ignored: the streaming recogniser takes none",)
    found = models.offline.remarks(options)
    if models.offline.can_bias and mode is RecognitionMode.TWO_PASS:
        return (*found, "hotwords change the finals; partials are read without them")
    return found
