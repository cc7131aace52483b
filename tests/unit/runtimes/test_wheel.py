"""A wheel that does not fit is refused before anything is written."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import Tag

from agent.runtimes.wheel import Here, RuntimeRefused, check_wheel, this_python, unpack
from tests.unit.runtimes.made_wheels import BINDING, make_wheel, runtime_files

JETSON = Here(
    (Tag("cp310", "cp310", "linux_aarch64"), Tag("py3", "none", "any")),
    "2.2.6",
    "Python 3.10 on aarch64",
)
JETSON_TAG = "cp310-cp310-linux_aarch64"


def test_a_wheel_as_nvidia_names_them_fits(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "1.23.0", tag=JETSON_TAG)
    wheel = check_wheel(path, JETSON)
    assert (wheel.name, wheel.version) == ("onnxruntime-gpu", "1.23.0")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"tag": "cp311-cp311-linux_aarch64"}, r"another Python \(cp311-cp311\).*Python 3.10"),
        ({"tag": "cp310-cp310-manylinux_2_28_x86_64"}, r"another platform .*x86_64.*cp310-cp310"),
        ({"project": "numpy"}, "is a wheel of numpy"),
        ({"requires": "numpy<2"}, "needs numpy<2, 2.2.6 is here"),
        ({"files": {**runtime_files("1"), BINDING: b"numpy.core"}}, "was built for numpy 1"),
        ({"files": {"other/__init__.py": b""}}, "has no module onnxruntime"),
        ({"files": {**runtime_files("1"), "../evil.py": b""}}, "points outside the wheel"),
        ({"files": {**runtime_files("1"), "/evil.py": b""}}, "points outside the wheel"),
        ({"files": {**runtime_files("1"), "a.dist-info/RECORD": b""}}, "has 2 files RECORD"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, made: Mapping[str, Any], said: str) -> None:
    path = make_wheel(tmp_path, **{"tag": JETSON_TAG, **made})
    with pytest.raises(RuntimeRefused, match=said):
        check_wheel(path, JETSON)


def test_a_build_for_numpy_1_fits_where_numpy_1_is(tmp_path: Path) -> None:
    files = {**runtime_files("1"), BINDING: b"numpy.core"}
    path = make_wheel(tmp_path, tag=JETSON_TAG, files=files)
    check_wheel(path, Here(JETSON.tags, "1.26.4", JETSON.version))


@pytest.mark.parametrize("name", ["onnxruntime.zip", "onnxruntime_gpu.whl", "a-b.whl"])
def test_a_name_without_tags_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeRefused, match="is not named as a wheel is"):
        check_wheel(tmp_path / name, JETSON)


def test_a_download_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, tag=JETSON_TAG)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RuntimeRefused, match="get it again"):
        check_wheel(path, JETSON)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeRefused, match="No such file"):
        check_wheel(tmp_path / f"onnxruntime_gpu-1.0-{JETSON_TAG}.whl", JETSON)


def test_every_file_is_held_to_the_record(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, tag=JETSON_TAG, wrong_digest="onnxruntime/capi/build.py")
    (tmp_path / "to").mkdir()
    with pytest.raises(RuntimeRefused, match=r"capi/build.py is not what the wheel's RECORD says"):
        unpack(check_wheel(path, JETSON), tmp_path / "to")


def test_a_file_that_no_record_names_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, tag=JETSON_TAG)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("onnxruntime/more.py", b"")
    (tmp_path / "to").mkdir()
    with pytest.raises(RuntimeRefused, match=r"more\.py is not what"):
        unpack(check_wheel(path, JETSON), tmp_path / "to")


def test_the_content_is_unpacked_as_it_is(tmp_path: Path) -> None:
    wheel = check_wheel(make_wheel(tmp_path), this_python())
    (tmp_path / "to").mkdir()
    unpack(wheel, tmp_path / "to")
    for name, data in runtime_files("9.0.0").items():
        assert (tmp_path / "to" / name).read_bytes() == data
