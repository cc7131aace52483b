"""Owner of the commands in force: finds them in finals and hands them to whoever acts on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from agent.types import CommandHeard, Transcript
from agent.voice_commands.matcher import CommandMatcher

_log = logging.getLogger(__name__)

Act = Callable[[CommandHeard, str], None]
"""Gets a command and the source of its stream; must not wait."""


class CommandWatch:
    """Looks at every final of every stream. Used on the loop only."""

    def __init__(
        self,
        matcher: CommandMatcher | None = None,
        count: Callable[[str], None] | None = None,
        act: Act | None = None,
    ) -> None:
        """`count` gets the name of each command that is heard."""
        self._matcher = matcher or CommandMatcher()
        self._count = count
        self._act = act

    @property
    def names(self) -> tuple[str, ...]:
        """Commands in force."""
        return self._matcher.names

    def use(self, matcher: CommandMatcher) -> None:
        """Other commands from the next final on."""
        self._matcher = matcher

    def read(self, final: Transcript) -> Transcript:
        """The final, with the command that it is. Its text is never changed."""
        texts = dict.fromkeys(text for text in (final.spoken, final.text) if text)
        match = self._matcher.match(*texts)
        said = {"session_id": final.session_id}
        if match.rivals:
            _log.debug("no command: %s are equally near", " and ".join(match.rivals), extra=said)
        if match.command is None:
            return final
        return replace(final, command=match.command)

    def heard(self, final: Transcript, source: str) -> CommandHeard | None:
        """The event that follows a final that is a command; it is counted, logged by its name
        only, and acted on."""
        if final.command is None:
            return None
        command, times = final.command, (final.start_ms, final.end_ms)
        event = CommandHeard(final.session_id, final.segment_id, *times, final.text, command)
        fields = {"session_id": final.session_id, "command": command.name, "edits": command.edits}
        _log.info("command %s heard", command.name, extra=fields)
        if self._count is not None:
            self._count(command.name)
        if self._act is not None:
            self._act(event, source)
        return event
