"""The image's bill of materials as SPDX 2.3 JSON: Debian's packages, wheels, models."""

from __future__ import annotations

import email.parser
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from pathlib import Path
from typing import Any

import yaml

NONE = "NOASSERTION"


@dataclass(frozen=True)
class Part:
    """A thing in the image."""

    name: str
    version: str
    purl: str
    licence: str = NONE
    """As its maker words it; SPDX tools want their own words, so it goes into a comment."""
    sha256: str | None = None


def debian_parts(listed: str) -> list[Part]:
    """From dpkg's list: name, version, architecture and source, a tab between them."""
    parts = []
    for line in listed.splitlines():
        name, version, architecture, source = line.split("\t")
        purl = f"pkg:deb/debian/{name}@{_quoted(version)}?arch={architecture}&distro=debian-12"
        if source != name:
            purl += f"&upstream={_quoted(source)}"
        parts.append(Part(name, version, purl))
    return parts


def wheel_parts(folders: Iterable[Path]) -> list[Part]:
    """From the metadata of the wheels that lie in those folders."""
    parts = []
    for folder in folders:
        for path in sorted(folder.glob("*.dist-info/METADATA")):
            text = path.read_text(encoding="utf-8", errors="replace")
            fields = email.parser.HeaderParser().parsestr(text)
            name, version = str(fields["Name"]), str(fields["Version"])
            normal = re.sub(r"[-_.]+", "-", name).lower()
            parts.append(Part(name, version, f"pkg:pypi/{normal}@{version}", _licence(fields)))
    return parts


def model_parts(folder: Path) -> list[Part]:
    """From the manifests of the embedded models; the hash is the manifest's, which has those of
    every file."""
    parts = []
    for path in sorted(folder.glob("*/manifest.yaml")):
        data = path.read_bytes()
        manifest = yaml.safe_load(data)
        version = str((manifest.get("source") or {}).get("revision") or NONE)
        digest = hashlib.sha256(data).hexdigest()
        purl = f"pkg:generic/{manifest['id']}@{_quoted(version)}"
        licence = str(manifest.get("license") or NONE)
        parts.append(Part(str(manifest["id"]), version, purl, licence, digest))
    return parts


def document(name: str, version: str, parts: Iterable[Part], epoch_s: int) -> Mapping[str, Any]:
    """The SPDX document of the image `name`; the same parts give the same document."""
    packages, relations = [], []
    taken: dict[str, int] = {}
    digest = hashlib.sha256()
    root = "SPDXRef-image"
    for part in parts:
        kind = part.purl.split(":")[1].split("/")[0]
        base = f"SPDXRef-{kind}-{re.sub(r'[^A-Za-z0-9.-]+', '-', part.name)}"
        taken[base] = taken.get(base, 0) + 1
        ref = base if taken[base] == 1 else f"{base}-{taken[base]}"
        digest.update(f"{part.purl}\n".encode())
        packages.append(_package(ref, part))
        relations.append(_relation(root, "CONTAINS", ref))
    stamp = datetime.fromtimestamp(epoch_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    image = _package(root, Part(name, version, f"pkg:generic/{name}@{_quoted(version)}"))
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:funasr-agent:spdx:{name}:{digest.hexdigest()}",
        "creationInfo": {"created": stamp, "creators": ["Tool: funasr-agent build-image"]},
        "packages": [image, *packages],
        "relationships": [_relation("SPDXRef-DOCUMENT", "DESCRIBES", root), *relations],
    }


def _package(ref: str, part: Part) -> dict[str, Any]:
    package: dict[str, Any] = {
        "SPDXID": ref,
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": NONE,
        "filesAnalyzed": False,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": part.purl,
            }
        ],
    }
    if part.licence != NONE:
        package["licenseComments"] = part.licence
    if part.sha256:
        package["comment"] = f"SHA-256 of manifest.yaml: {part.sha256}"
    return package


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _licence(fields: Message) -> str:
    """The expression, else the field's first line, else what the classifiers say."""
    for key in ("License-Expression", "License"):
        text = str(fields.get(key) or "").strip().splitlines()
        if text and text[0].upper() != "UNKNOWN":
            return text[0][:200]
    classifiers = [str(text) for text in fields.get_all("Classifier", [])]
    found = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")]
    return ", ".join(found) or NONE


def _quoted(text: str) -> str:
    return text.replace("%", "%25").replace("+", "%2B").replace(":", "%3A").replace(" ", "%20")
