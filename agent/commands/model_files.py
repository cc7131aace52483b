"""`funasr-agent models install|bundle|fetch|keygen|sign`: models as files."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.assembly import model_store
from agent.commands.common import FINE, USAGE, complain, config_from
from agent.commands.daemon import running_daemon
from agent.commands.progress import ByteProgress
from agent.config import Config
from agent.errors import ModelError, UnknownModel
from agent.store.adopt import adopt
from agent.store.bundle import BundleSource, bundle_size, bundle_stream, write_bundle
from agent.store.disk import Disk
from agent.store.fetch import fetch
from agent.store.install import InstalledModel
from agent.store.known import known_models
from agent.store.lock import StoreLock
from agent.store.names import MANIFEST_NAME
from agent.store.refs import parse_ref
from agent.store.trust import fingerprint, generate_key, sign_folder

STDIN = "-"


def install(args: argparse.Namespace) -> int:
    """`models install PATH`: a bundle, a model folder, or a FunASR export folder."""
    config = config_from(args)
    with _opened(args.path, args.id) as (stream, size):
        return _install_stream(config, stream, size, what=Path(args.path).name or args.path)


def bundle(args: argparse.Namespace) -> int:
    """`models bundle ID... -o FILE`: models of this box as one file for another."""
    store = model_store(config_from(args))
    sources = []
    for name in args.ids:
        found = store.library.find(parse_ref(name))
        sources.append(BundleSource(found.ref.id, found.folder))
    target = Path(args.output)
    compress = target.name.endswith((".zst", ".tzst"))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file, ByteProgress("bundling", bundle_size(sources)) as told:
            write_bundle(sources, file, compress=compress, progress=told.at)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    print(f"{target}: {', '.join(source.id for source in sources)}")
    return FINE


def fetch_model(args: argparse.Namespace) -> int:
    """`models fetch ID`: download a published model, verified, and install it here."""
    config = config_from(args)
    mirror = args.mirror or config.models.mirror
    known = known_models()
    if args.id not in known:
        raise UnknownModel(
            f"{args.id!r} is not a known model; known are {', '.join(sorted(known))}"
        )
    if not mirror:
        complain(
            "no mirror is set, and the agent has no address of its own to download from: give "
            "--mirror URL or set models.mirror, with {name}, {revision} and {file} in it"
        )
        return USAGE
    folder = Path(args.to) if args.to else config.state_dir / "downloads" / args.id
    with ByteProgress(f"fetching {args.id}", None) as told:
        fetch(known[args.id], folder, mirror=mirror, disk=Disk(), progress=told.file)
    if args.to:
        print(f"{folder}: {args.id}; `funasr-agent models install {folder}` installs it")
        return FINE
    with _adopted(folder, args.id) as (stream, size):
        status = _install_stream(config, stream, size, what=args.id)
    if status == FINE:
        Disk().remove(folder)
    return status


def keygen(args: argparse.Namespace) -> int:
    """`models keygen NAME`: a key pair for signing models."""
    private, public = Path(f"{args.name}.key"), Path(f"{args.name}.pub")
    generate_key(private, public)
    print(f"{private}: private key; keep it off the devices")
    print(f"{public}: public key {fingerprint(public)}; put it into models.trusted_keys")
    return FINE


def sign(args: argparse.Namespace) -> int:
    """`models sign MODEL --key FILE`: sign a model folder, or an installed model."""
    folder = Path(args.model)
    if not folder.is_dir():
        folder = model_store(config_from(args)).library.find(parse_ref(args.model)).folder
    elif not (folder / MANIFEST_NAME).exists():
        raise ModelError(
            f"has no {MANIFEST_NAME} to sign; install it, then sign it by its id",
            file=str(folder),
        )
    print(f"{sign_folder(folder, Path(args.key))}: signed")
    return FINE


def _install_stream(config: Config, stream: BinaryIO, size: int | None, *, what: str) -> int:
    daemon = running_daemon(config)
    with ByteProgress(f"installing {what}", size) as told:
        if daemon is not None:
            answer = daemon.upload("/api/v1/models", told.reading(stream), size)
            rows = [(e["ref"], e["task"], e["already"]) for e in answer["installed"]]
        else:
            with StoreLock(config.state_dir):
                installed = model_store(config).install(stream, progress=told.at)
            rows = [(_ref(model), model.task, model.already) for model in installed]
    for ref, role, already in rows:
        done = "is installed already, and sound" if already else "installed"
        use = f"`funasr-agent models use {role}={ref.partition('@')[0]}` puts it to use"
        print(f"{ref}: {done}; {use}")
    sys.stdout.flush()
    return FINE


def _ref(model: InstalledModel) -> str:
    return f"{model.id}@{model.sha8}"


@contextmanager
def _opened(path: str, model_id: str | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bundle at `path`, or the one that a folder makes, and its size where it is known."""
    if path == STDIN:
        yield sys.stdin.buffer, None
        return
    place = Path(path)
    if not place.is_dir():
        try:
            file = open(place, "rb")  # noqa: SIM115 - an error of the `with` block is another one
        except OSError as error:
            raise ModelError(f"can't be read ({error.strerror})", file=path) from None
        with file:
            status = os.fstat(file.fileno())
            yield file, status.st_size if stat.S_ISREG(status.st_mode) else None
        return
    if (place / MANIFEST_NAME).exists():
        with _streamed([BundleSource(_id_of(place), place)]) as opened:
            yield opened
        return
    with _adopted(place, model_id) as opened:
        yield opened


@contextmanager
def _adopted(folder: Path, model_id: str | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """A FunASR export as a bundle with the manifest that is written for it."""
    with ByteProgress(f"reading {folder.name}", None) as told:
        adopted = adopt(folder, model_id=model_id, progress=told.add)
    source = BundleSource(adopted.id, folder, manifest=adopted.manifest, extra=adopted.extra)
    with _streamed([source]) as opened:
        yield opened


@contextmanager
def _streamed(sources: Sequence[BundleSource]) -> Iterator[tuple[BinaryIO, int | None]]:
    with bundle_stream(sources) as stream:
        yield stream, bundle_size(sources)


def _id_of(folder: Path) -> str:
    from agent.store.manifest import read_manifest

    return read_manifest(folder).id
