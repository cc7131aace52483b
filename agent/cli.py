"""The command line: parses, dispatches, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from agent import __version__
from agent.commands import common
from agent.errors import AgentError, ConfigError, NotReady, Overloaded
from agent.subtitles import FORMATS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (0, 1, 2, 75, 78 or 130)."""
    parser = build_parser()
    try:
        args = parser.parse_args(arguments)
        status: int = _dispatch(args)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # argparse: help, version, usage
        return stop.code if isinstance(stop.code, int) else common.USAGE
    except ConfigError as error:
        for problem in error.problems:
            common.complain(str(problem))
        return common.BAD_CONFIG
    except (Overloaded, NotReady) as error:
        common.complain(error.message)
        return common.TEMPORARY
    except AgentError as error:
        common.complain(error.message)
        return common.FAILED
    except KeyboardInterrupt:
        return common.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not flush into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return common.FAILED
    except OSError as error:
        common.complain(str(error))
        return common.FAILED


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog=common.PROGRAM,
        description="Offline speech to text on FunASR's models: a daemon, and tools around it.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_transcribe(commands)
    _add_config(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("serve", help="run the daemon", description="Run the daemon.")
    common.add_config_arguments(parser)


def _add_transcribe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "transcribe",
        help="audio files to text",
        description="Transcribe audio files (wav, flac, mp3, ogg, opus) on this machine.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file")
    parser.add_argument(
        "--format",
        choices=sorted(FORMATS),
        default="text",
        help="text (default): one line a file; json: one object a file and line; srt, vtt",
    )
    parser.add_argument(
        "--model", metavar="ID", help="recogniser to use instead of models.asr_offline"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="write <name of FILE>.<txt|json|srt|vtt> there"
    )
    common.add_config_arguments(parser)


def _add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "config", help="show or check the configuration", description="The configuration."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("show", "print what is in force, as YAML"),
        ("check", "print every problem; exit 78 when there is one"),
    ):
        common.add_config_arguments(actions.add_parser(name, help=text, description=text))
    text = "print the JSON schema of config.yaml"
    actions.add_parser("schema", help=text, description=text)


def _dispatch(args: argparse.Namespace) -> int:
    """Imports only the command that runs: `config` must work where an engine does not."""
    if args.command == "serve":
        from agent.commands.serve import serve

        return serve(args)
    if args.command == "transcribe":
        from agent.commands.transcribe import transcribe

        return transcribe(args)
    from agent.commands.config import config

    return config(args)
