"""A runtime takes another's place when it proves to work, and only then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import StoreBusy
from agent.runtimes.install import install_runtime, remove_runtime
from agent.runtimes.places import LinkedPlace, Place, SitePlace
from agent.runtimes.proof import Proof, prove_providers
from agent.runtimes.wheel import RuntimeRefused, this_python
from tests.unit.runtimes.made_wheels import copy_of_the_installed, make_site, make_wheel

HERE = this_python()


def works(folder: Path | None) -> Proof:
    return Proof("", "9", folder)


def fails(folder: Path | None) -> Proof:
    return Proof("cuda: the driver sees no GPU")


def fails_where_it_is_used(folder: Path | None) -> Proof:
    return works(folder) if folder else Proof("cuda: no kernel image")


def quiet(_: str) -> None:
    """Progress is not looked at."""


def checkout(folder: Path) -> SitePlace:
    return SitePlace(make_site(folder / "site-packages"))


def package(folder: Path) -> LinkedPlace:
    make_site(folder / "lib" / "runtime-cpu")
    place = LinkedPlace(folder / "lib", "cp311")
    place.recover()  # as the package's installation does
    return place


@pytest.fixture(params=[checkout, package])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    make: Callable[[Path], Place] = request.param
    return make(tmp_path)


def module(place: Place) -> Path:
    """The folder that Python imports from."""
    return place.root if isinstance(place, SitePlace) else place.root / "onnxruntime"


def seen(place: Place) -> list[str]:
    """Everything in the folder that Python imports from, but the other library."""
    return sorted(set(os.listdir(module(place))) - {"other", ".funasr-agent-runtimes"})


def left_over(place: Place) -> list[str]:
    """Runtimes that are kept beside those in use and the CPU's."""
    if isinstance(place, SitePlace):
        store = place.root / ".funasr-agent-runtimes"
        return [name for name in os.listdir(store) if name != "cpu"] if store.exists() else []
    folder = place.root / "gpu"
    in_use = os.readlink(place.root / "onnxruntime").removeprefix("gpu/")
    return [name for name in os.listdir(folder) if name != in_use] if folder.exists() else []


def test_it_replaces_and_does_not_add(place: Place, tmp_path: Path) -> None:
    installed = install_runtime(make_wheel(tmp_path), place, HERE, works, quiet)
    assert (installed.name, installed.version) == ("onnxruntime-gpu", "9.0.0")
    assert installed.replaced
    assert seen(place) == ["onnxruntime", "onnxruntime_gpu-9.0.0.dist-info"]
    assert "9.0.0" in (module(place) / "onnxruntime" / "__init__.py").read_text()
    assert left_over(place) == []


def test_removed_it_gives_way_to_the_one_that_was_there(place: Place, tmp_path: Path) -> None:
    before = seen(place)
    install_runtime(make_wheel(tmp_path), place, HERE, works, quiet)
    assert remove_runtime(place)
    assert seen(place) == before
    assert "1.0.0" in (module(place) / "onnxruntime" / "__init__.py").read_text()
    assert place.installed().name == "onnxruntime"
    assert not place.installed().replaced
    assert left_over(place) == []
    assert not remove_runtime(place)


def test_the_cpus_is_kept_when_a_second_one_is_installed(place: Place, tmp_path: Path) -> None:
    for version in ("8.0.0", "9.0.0", "9.0.0"):
        install_runtime(make_wheel(tmp_path, version), place, HERE, works, quiet)
        assert place.installed().version == version
        assert seen(place) == ["onnxruntime", f"onnxruntime_gpu-{version}.dist-info"]
    assert left_over(place) == []
    assert remove_runtime(place)
    assert place.installed().version == "1.0.0"


def test_a_build_named_as_the_cpus_and_of_its_version_is_told_apart(
    place: Place, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "1.0.0", project="onnxruntime")
    assert install_runtime(wheel, place, HERE, works, quiet).replaced
    assert (module(place) / "onnxruntime-1.0.0.dist-info" / "WHEEL").exists()
    assert remove_runtime(place)
    assert not (module(place) / "onnxruntime-1.0.0.dist-info" / "WHEEL").exists()


@pytest.mark.parametrize("prove", [fails, fails_where_it_is_used])
def test_one_that_does_not_work_leaves_the_former_in_use(
    place: Place, tmp_path: Path, prove: Callable[[Path | None], Proof]
) -> None:
    before = seen(place)
    with pytest.raises(RuntimeRefused, match=r"cuda: .*; the former runtime stays in use"):
        install_runtime(make_wheel(tmp_path), place, HERE, prove, quiet)
    assert seen(place) == before
    assert place.installed().version == "1.0.0"
    assert left_over(place) == []


def test_a_second_one_that_does_not_work_leaves_the_first_in_use(
    place: Place, tmp_path: Path
) -> None:
    install_runtime(make_wheel(tmp_path, "8.0.0"), place, HERE, works, quiet)
    wheel = make_wheel(tmp_path, "9.0.0")
    with pytest.raises(RuntimeRefused):
        install_runtime(wheel, place, HERE, fails_where_it_is_used, quiet)
    assert place.installed().version == "8.0.0"
    assert seen(place) == ["onnxruntime", "onnxruntime_gpu-8.0.0.dist-info"]
    assert left_over(place) == []
    assert remove_runtime(place)
    assert place.installed().version == "1.0.0"


def test_a_module_from_elsewhere_proves_nothing(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RuntimeRefused, match="was imported in place of the wheel's"):
        install_runtime(
            make_wheel(tmp_path), place, HERE, lambda _: Proof("", "1", tmp_path), quiet
        )
    assert place.installed().version == "1.0.0"


def test_two_do_not_change_the_runtime_at_once(place: Place, tmp_path: Path) -> None:
    def prove(folder: Path | None) -> Proof:
        with pytest.raises(StoreBusy, match="another process is changing"):
            remove_runtime(place)
        return works(folder)

    assert install_runtime(make_wheel(tmp_path), place, HERE, prove, quiet).replaced


def test_the_package_names_the_folder_after_its_python(tmp_path: Path) -> None:
    place = package(tmp_path)
    install_runtime(make_wheel(tmp_path), place, HERE, works, quiet)
    assert os.readlink(place.root / "onnxruntime").startswith("gpu/cp311-")


def test_a_real_runtime_is_proven_and_a_broken_one_refused(tmp_path: Path) -> None:
    place = checkout(tmp_path)

    def prove(folder: Path | None) -> Proof:
        return prove_providers(folder or place.root, ("cpu",))

    whole = make_wheel(tmp_path, files=copy_of_the_installed())
    assert install_runtime(whole, place, HERE, prove, quiet).version == "9.0.0"
    broken = make_wheel(tmp_path, "9.1.0", files=copy_of_the_installed(broken=True))
    with pytest.raises(RuntimeRefused, match=r"cpu: .*; the former runtime stays in use"):
        install_runtime(broken, place, HERE, prove, quiet)
    assert place.installed().version == "9.0.0"


def test_a_build_for_the_cpu_is_no_runtime_for_a_gpu() -> None:
    if not prove_providers(None, ("cuda",)).reason:
        pytest.skip("a runtime that works on a GPU is installed here")
    assert "cuda: " in prove_providers(None, ("cpu", "cuda")).reason
