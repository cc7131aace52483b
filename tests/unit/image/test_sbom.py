"""The bill of materials."""

from __future__ import annotations

from pathlib import Path

from scripts.image.sbom import Part, debian_parts, document, model_parts, wheel_parts

ROOT = Path(__file__).resolve().parents[3]


def test_every_package_of_the_system_is_listed() -> None:
    listed = "libc6\t2.36-9+deb12u9\tarm64\tglibc\nbash\t5.2.15-2+b7\tarm64\tbash\n"
    parts = debian_parts(listed)
    assert [part.purl for part in parts] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=arm64&distro=debian-12&upstream=glibc",
        "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=arm64&distro=debian-12",
    ]


def test_wheels_are_read_from_their_metadata(tmp_path: Path) -> None:
    texts = {
        "Typing_Extensions": "License-Expression: PSF-2.0\n",
        "old": "License: Apache 2.0\n  and more text\n",
        "classified": "Classifier: License :: OSI Approved :: MIT License\n",
        "bare": "",
    }
    for name, licence in texts.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{licence}\nDescription: no field\n"
        )
    parts = {part.name: part for part in wheel_parts([tmp_path])}
    assert parts["Typing_Extensions"].purl == "pkg:pypi/typing-extensions@1.0"
    assert {name: part.licence for name, part in parts.items()} == {
        "Typing_Extensions": "PSF-2.0",
        "old": "Apache 2.0",
        "classified": "MIT License",
        "bare": "NOASSERTION",
    }


def test_the_embedded_models_are_listed_with_their_manifests_hash() -> None:
    parts = model_parts(ROOT / "models")
    assert [part.name for part in parts] == ["builtin-offline", "builtin-online", "builtin-vad"]
    assert all(part.sha256 and part.licence.startswith("Apache-2.0") for part in parts)


def test_the_document_is_spdx_and_the_same_for_the_same_parts() -> None:
    parts = [
        Part("libstdc++6", "12", "pkg:deb/debian/libstdc++6@12"),
        Part("libstdc--6", "12", "pkg:deb/debian/libstdc--6@12"),
        Part("numpy", "2.2.6", "pkg:pypi/numpy@2.2.6", "BSD-3-Clause"),
    ]
    made = document("image", "0.1.0", parts, 1_700_000_000)
    assert made == document("image", "0.1.0", parts, 1_700_000_000)
    assert made["spdxVersion"] == "SPDX-2.3"
    assert made["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    ids = [package["SPDXID"] for package in made["packages"]]
    assert len(ids) == len(set(ids)) == 4
    contained = {r["relatedSpdxElement"] for r in made["relationships"]}
    assert contained == set(ids)
    assert (
        made["documentNamespace"] != document("image", "0.1.0", parts[:1], 0)["documentNamespace"]
    )
