"""Models come whole and true from a mirror, or not at all, whatever it sends."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest

from agent.errors import FetchError, IntegrityError, NoSpace
from agent.store.disk import Disk
from agent.store.known import KnownFile, KnownHash
from agent.store.manifest import Variant
from tests.unit.store.mirror import (
    CARD,
    GRAPH,
    MODEL,
    PAGE,
    PUBLISHED,
    TOKENS,
    Fetcher,
    LyingMirror,
    always_cut_after,
    announcing,
    another_range,
    cut_after,
    drip,
    endless,
    published_as,
    sending,
    serve,
    stall_after,
    whole_in_spite_of_range,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def mirror(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with LyingMirror(PUBLISHED).running() as running:
        yield running


@pytest.fixture
def get(mirror, tmp_path):
    return Fetcher(mirror, tmp_path / "fetched")


def with_file(name, file):
    return replace(MODEL, files={**MODEL.files, name: file})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_file_comes_and_nothing_else_is_left(get):
    seen = []
    get(progress=lambda *step: seen.append(step))
    assert names(get.target) == ["README.md", "model_quant.onnx", "tokens.json"]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH
    assert ("model_quant.onnx", len(GRAPH), len(GRAPH)) in seen
    assert get.waits == []


def test_files_that_are_there_are_not_asked_for_again(get, mirror):
    get()
    mirror.requests.clear()
    get()
    assert [path for path, _ in mirror.requests] == ["README.md"]


def test_a_file_that_was_spoilt_on_disk_comes_again(get):
    get()
    (get.target / "tokens.json").write_bytes(TOKENS[::-1])
    get()
    assert (get.target / "tokens.json").read_bytes() == TOKENS


def test_each_file_is_asked_for_at_the_revision_of_its_hash(get, mirror):
    model = with_file("model_quant.onnx", KnownFile((published_as(GRAPH, revision=COMMIT),)))
    mirror.files = {
        f"m/some/model/resolve/{COMMIT}/model_quant.onnx": GRAPH,
        "m/some/model/resolve/master/tokens.json": TOKENS,
    }
    template = mirror.url + "/m/{name}/resolve/{revision}/{file}"
    get(model, mirror=template)
    assert names(get.target) == ["model_quant.onnx", "tokens.json"]


def test_a_cut_download_goes_on_where_it_was_cut(get, mirror):
    mirror.script["model_quant.onnx"] = [cut_after(1_000_000), cut_after(500_000)]
    get()
    assert mirror.ranges("model_quant.onnx") == [None, "bytes=1000000-", "bytes=1500000-"]
    assert mirror.requests[1][1]["If-Range"] == mirror.etag
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH
    assert get.waits == [1.0, 2.0]


def test_an_interrupted_run_goes_on_in_the_next_one(get, mirror):
    mirror.script["model_quant.onnx"] = [cut_after(1_000_000)]
    with pytest.raises(FetchError, match=r"gave up after 1 tries.* at 1000000 bytes"):
        get(tries=1)
    assert names(get.target) == ["model_quant.onnx.part"]
    get()
    assert mirror.ranges("model_quant.onnx") == [None, "bytes=1000000-"]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_whole_part_needs_no_more_bytes(get, mirror):
    get.target.mkdir()
    (get.target / "model_quant.onnx.part").write_bytes(GRAPH)
    get()
    assert mirror.ranges("model_quant.onnx") == []
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_whole_part_of_unknown_size_is_recognised_by_the_mirror_having_no_more(get, mirror):
    get.target.mkdir()
    (get.target / "model_quant.onnx.part").write_bytes(GRAPH)
    get(with_file("model_quant.onnx", KnownFile((published_as(GRAPH, sized=False),))))
    assert mirror.ranges("model_quant.onnx") == [f"bytes={len(GRAPH)}-"]
    assert names(get.target) == ["README.md", "model_quant.onnx", "tokens.json"]


def test_a_part_that_is_too_long_is_thrown_away(get, mirror):
    get.target.mkdir()
    (get.target / "model_quant.onnx.part").write_bytes(GRAPH + b"more")
    get()
    assert mirror.ranges("model_quant.onnx") == [None]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_part_of_another_file_is_found_out_by_its_hash(get, mirror):
    get.target.mkdir()
    (get.target / "model_quant.onnx.part").write_bytes(bytes(1_000_000))
    get()
    assert mirror.ranges("model_quant.onnx") == ["bytes=1000000-", None]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_an_old_part_of_a_file_without_a_known_hash_is_not_continued(get, mirror):
    get.target.mkdir()
    (get.target / "README.md.part").write_bytes(b"# a")
    get()
    assert mirror.ranges("README.md") == [None]
    assert (get.target / "README.md").read_bytes() == CARD


def test_a_file_that_nothing_identifies_starts_over_when_it_is_cut(get, mirror):
    """No known hash, no ETag: what came might be of another version than the rest."""
    mirror.script["README.md"] = [always_cut_after(4)]
    get()
    assert mirror.ranges("README.md") == [None, None]
    assert (get.target / "README.md").read_bytes() == CARD


def test_a_part_that_is_a_link_is_not_written_through(get, tmp_path):
    get.target.mkdir()
    other = tmp_path / "precious"
    other.write_bytes(b"precious")
    (get.target / "model_quant.onnx.part").symlink_to(other)
    get()
    assert other.read_bytes() == b"precious"
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_mirror_without_ranges_starts_over(get, mirror):
    mirror.script["model_quant.onnx"] = [cut_after(1_000_000), whole_in_spite_of_range]
    get()
    assert mirror.ranges("model_quant.onnx") == [None, "bytes=1000000-"]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_file_that_changed_between_two_tries_starts_over(get, mirror):
    def change(handler, content):
        mirror.etag = '"two"'
        serve(handler, content)

    mirror.script["model_quant.onnx"] = [cut_after(1_000_000), change]
    get()
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_another_range_than_was_asked_for_is_not_taken(get, mirror):
    mirror.script["model_quant.onnx"] = [cut_after(1_000_000), another_range]
    get()
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH
    assert len(mirror.ranges("model_quant.onnx")) == 3


def test_a_stall_is_given_up_and_continued(get, mirror):
    mirror.script["model_quant.onnx"] = [stall_after(700_000)]
    get(timeout_s=0.3)
    assert mirror.ranges("model_quant.onnx") == [None, "bytes=700000-"]
    assert get.waits == [1.0]


def test_a_drip_of_bytes_counts_as_a_stall(get, mirror):
    mirror.always["model_quant.onnx"] = drip
    with pytest.raises(FetchError, match=r"stalls at \d+ bytes; gave up after 2 tries"):
        get(timeout_s=0.2, tries=2)


def test_tries_that_bring_something_do_not_count_against_the_limit(get, mirror):
    cuts = [cut_after(1_100_000), cut_after(1_100_000), cut_after(100)]
    mirror.script["model_quant.onnx"] = cuts
    get(tries=3)
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_mirror_that_always_cuts_at_the_same_place_is_given_up(get, mirror):
    mirror.always["model_quant.onnx"] = always_cut_after(1_500_000)
    with pytest.raises(FetchError, match="gave up after 3 tries"):
        get(tries=3)


def test_an_optional_file_may_be_absent(get, mirror):
    del mirror.files["README.md"]
    get()
    assert names(get.target) == ["model_quant.onnx", "tokens.json"]


def test_a_web_page_for_an_optional_file_is_as_good_as_none(get, mirror):
    mirror.always["README.md"] = sending(PAGE, Content_Type="text/html; charset=utf-8")
    get()
    assert names(get.target) == ["model_quant.onnx", "tokens.json"]


def test_a_required_file_must_be_there(get, mirror):
    del mirror.files["tokens.json"]
    with pytest.raises(FetchError, match=r"^tokens.json: http://127.*tokens.json: .* answers 404"):
        get()


@pytest.mark.parametrize("headers", [{"Content_Type": "text/html"}, {}])
def test_a_web_page_in_place_of_a_graph_is_named_as_such(get, mirror, headers):
    mirror.always["model_quant.onnx"] = sending(PAGE.ljust(len(GRAPH)), **headers)
    with pytest.raises(FetchError, match="answers with a web page"):
        get()
    assert names(get.target) == []


def test_bytes_that_are_wrong_once_are_asked_for_again(get, mirror):
    mirror.script["model_quant.onnx"] = [sending(GRAPH[::-1])]
    get()
    assert mirror.ranges("model_quant.onnx") == [None, None]
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_bytes_that_stay_wrong_are_an_error_that_says_all(get, mirror):
    wrong = GRAPH[::-1]
    mirror.always["model_quant.onnx"] = sending(wrong)
    with pytest.raises(IntegrityError) as caught:
        get()
    found, known = (hashlib.sha256(data).hexdigest()[:8] for data in (wrong, GRAPH))
    assert f"sha256 is {found}..., known is {known}..." in caught.value.message
    assert f"{mirror.url}/model_quant.onnx" in caught.value.message
    assert names(get.target) == []


@pytest.mark.parametrize("length", [len(GRAPH) + 1, len(GRAPH) - 1])
def test_a_false_length_is_found_out(get, mirror, length):
    mirror.always["model_quant.onnx"] = announcing(length)
    with pytest.raises(IntegrityError, match=f"announces {length} bytes, known is {len(GRAPH)}"):
        get()
    assert names(get.target) == []


@pytest.mark.parametrize("length", [len(GRAPH) + 9, len(GRAPH) - 9])
def test_a_false_length_of_a_file_of_unknown_size_is_found_out(get, mirror, length):
    model = with_file("model_quant.onnx", KnownFile((published_as(GRAPH, sized=False),)))
    mirror.always["model_quant.onnx"] = announcing(length)
    with pytest.raises((IntegrityError, FetchError), match=r"sha256 is|connection ended"):
        get(model, tries=2)
    assert not (get.target / "model_quant.onnx").exists()


def test_a_file_without_an_announced_length_comes_whole(get, mirror):
    mirror.always["model_quant.onnx"] = announcing(None)
    get()
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_file_without_an_end_is_cut_off_at_the_known_size(get, mirror):
    mirror.always["model_quant.onnx"] = endless
    with pytest.raises(IntegrityError, match=f"more than {len(GRAPH)} bytes come"):
        get()
    assert names(get.target) == []


def test_a_file_of_unknown_size_without_an_end_is_cut_off_at_the_bound(get, mirror):
    mirror.always["README.md"] = endless
    with pytest.raises(FetchError, match="more than 4000000 bytes come, at most 4000000"):
        get(max_bytes=4_000_000)
    assert (get.target / "README.md.part").stat().st_size <= 4_000_000


def test_an_announced_size_beyond_the_bound_is_refused_before_it_comes(get, mirror):
    mirror.always["README.md"] = announcing(4_000_001)
    with pytest.raises(FetchError, match="announces 4000001 bytes"):
        get(max_bytes=4_000_000)


def test_a_full_disk_is_said_before_anything_is_asked_for(get, mirror):
    huge = KnownFile((KnownHash("0" * 64, 1 << 60),))
    with pytest.raises(NoSpace, match="MB are needed"):
        get(with_file("model_quant.onnx", huge))
    assert mirror.requests == []


def test_graphs_of_different_revisions_are_refused(get, mirror):
    """Each has a known hash, together nobody has published them."""
    decoder = b"decoder"
    files = {
        "model_quant.onnx": KnownFile((published_as(GRAPH, revision="one"),)),
        "decoder_quant.onnx": KnownFile((published_as(decoder, revision="two"),)),
    }
    graphs = {"model": "model_quant.onnx", "decoder": "decoder_quant.onnx"}
    mirror.files["decoder_quant.onnx"] = decoder
    with pytest.raises(IntegrityError, match="different revisions"):
        get(replace(MODEL, files=files, variants=(Variant("int8", "cpu", graphs),)))


def test_a_target_that_is_a_file_is_a_clear_error(get):
    get.target.write_bytes(b"")
    with pytest.raises(FetchError, match=r"can't be written \(Not a directory\)"):
        get()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_target_that_may_not_be_written_is_a_clear_error(get):
    get.target.mkdir(mode=0o555)
    with pytest.raises(FetchError, match=r"can't be written \(Permission denied\)"):
        get()


def test_a_file_gets_its_name_when_it_is_whole_and_true(get, mirror):
    renamed = {}

    class Watching(Disk):
        def replace(self, source, place):
            renamed[place.name] = source.read_bytes()
            super().replace(source, place)

    mirror.script["model_quant.onnx"] = [cut_after(1_000_000), sending(GRAPH[::-1])]
    get(disk=Watching())
    assert renamed == {"model_quant.onnx": GRAPH, "tokens.json": TOKENS, "README.md": CARD}
