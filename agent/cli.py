"""The command line: parses, dispatches, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from agent.commands import common
from agent.errors import AgentError, ConfigError, ModelError, NotReady, Overloaded, StoreBusy
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
    except (Overloaded, NotReady, StoreBusy) as error:
        common.complain(error.message)
        return common.TEMPORARY
    except AgentError as error:
        level = error.level if isinstance(error, ModelError) else ""
        common.complain(f"{error.message} (level: {level})" if level else error.message)
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
    _add_devices(commands)
    _add_models(commands)
    _add_doctor(commands)
    _add_bench(commands)
    _add_config(commands)
    _add_token(commands)
    _add_gpu(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("serve", help="run the daemon", description="Run the daemon.")
    parser.add_argument(
        "--lan",
        action="store_true",
        help="serve the local network with a token and print the address to open",
    )
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


def _add_devices(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "the microphones of this box: native rate, channels, which one is used"
    parser = commands.add_parser("devices", help=text, description=text)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--level",
        action=argparse.BooleanOptionalAction,
        help="show the level of the one that is used, until Ctrl-C (on a terminal: the default)",
    )
    common.add_config_arguments(parser)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "models", help="install, verify and choose models", description="The models of this box."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text)
        common.add_config_arguments(action)
        return action

    action = add("list", "the models of this box, their state and what they serve")
    action.add_argument("--json", action="store_true", help="as JSON")
    action = add("verify", "look at all models (or one) on every level, and at their speed")
    action.add_argument("id", nargs="?", metavar="ID", help="model, with or without @sha8")
    action.add_argument("--json", action="store_true", help="as JSON")
    action = add("install", "install a bundle, a model folder, or a folder of a FunASR export")
    action.add_argument("path", metavar="BUNDLE|FOLDER", help="- reads a bundle from stdin")
    action.add_argument("--id", metavar="ID", help="id for a FunASR export that is not a known one")
    action = add("remove", "remove an installed model that nothing uses")
    action.add_argument("id", metavar="ID", help="model, with or without @sha8")
    action = add("use", "serve a role with a model; what served before stays for rollback")
    action.add_argument("choice", metavar="ROLE=ID", help="for example asr_offline=paraformer-zh")
    action = add("rollback", "serve a role with the model that served it before")
    action.add_argument("role", metavar="ROLE", help="vad, asr_online, asr_offline or punctuation")
    action = add("bundle", "write models into one file, to carry to another box")
    action.add_argument("ids", nargs="+", metavar="ID", help="model, with or without @sha8")
    action.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".tar, or .tar.zst to compress it"
    )
    action = add("fetch", "download a published model from a mirror and install it here")
    action.add_argument("id", metavar="ID", help="id of a known model")
    action.add_argument("--mirror", metavar="URL", help="instead of models.mirror")
    action.add_argument("--to", metavar="DIR", help="only download, into this folder")
    action = add("keygen", "make a key pair for signing models: NAME.key and NAME.pub")
    action.add_argument("name", metavar="NAME")
    action = add("sign", "sign a model folder or an installed model")
    action.add_argument("model", metavar="ID|FOLDER")
    action.add_argument("--key", required=True, metavar="FILE", help="the private key")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "look over this box, or over another one on the network; exit 1 for a failure"
    parser = commands.add_parser("doctor", help=text, description=text)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--url", metavar="URL", help="another box, for example http://box:8080")
    parser.add_argument("--token", metavar="TOKEN", help="the other box's access token")
    common.add_config_arguments(parser)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "measure the models of this box: load, speed, memory, streams; about a minute"
    parser = commands.add_parser("bench", help=text, description=text)
    parser.add_argument(
        "--model", metavar="ID", help="every form of this model, in place of the models in use"
    )
    parser.add_argument(
        "--quick", action="store_true", help="less exact, in a fraction of the time"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--report", metavar="FILE", help="write the report there, as JSON")
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


def _add_token(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "the access token that other machines need"
    parser = commands.add_parser("token", help=text, description=text)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, what in (
        ("show", "print it"),
        ("rotate", "replace it and print the new one; whoever is signed in is out at once"),
    ):
        common.add_config_arguments(actions.add_parser(name, help=what, description=what))


def _add_gpu(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "the ONNX Runtime in use, and a GPU's in its place"
    parser = commands.add_parser("gpu", help=text, description=text)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "which runtime is used, and which processors it really runs on"
    actions.add_parser("status", help=text, description=text).add_argument(
        "--json", action="store_true", help="as JSON"
    )
    text = "put a runtime for a GPU in the place of the one in use, when it proves to work"
    action = actions.add_parser("install", help=text, description=text)
    source = action.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, metavar="FILE", help="a wheel of onnxruntime-gpu")
    source.add_argument("--index-url", metavar="URL", help="the one package index to get it from")
    action.add_argument(
        "--version", default="", metavar="X.Y.Z", help="with --index-url; else the newest"
    )
    action.add_argument(
        "--without-gpu",
        action="store_true",
        help="the GPU is not here (an image that is built): try it on the CPU only",
    )
    text = "use the runtime again that came with the agent"
    actions.add_parser("remove", help=text, description=text)


def _dispatch(args: argparse.Namespace) -> int:
    """Imports only the command that runs: `config` must work where an engine does not."""
    if args.command == "serve":
        from agent.commands.serve import serve

        return serve(args)
    if args.command == "transcribe":
        from agent.commands.transcribe import transcribe

        return transcribe(args)
    if args.command == "devices":
        from agent.commands.devices import devices

        return devices(args)
    if args.command == "models":
        from agent.commands.models import models

        return models(args)
    if args.command == "doctor":
        from agent.commands.doctor import doctor

        return doctor(args)
    if args.command == "bench":
        from agent.commands.bench import bench

        return bench(args)
    if args.command == "token":
        from agent.commands.token import token

        return token(args)
    if args.command == "gpu":
        from agent.commands.gpu import gpu

        return gpu(args)
    from agent.commands.config import config

    return config(args)
