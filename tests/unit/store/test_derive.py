"""Graphs derived from int8 weights keep the model's numbers, and are verified like any other."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx
import pytest
import soundfile
import yaml
from onnx import TensorProto, helper, numpy_helper

from agent.engine import ort
from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.placement import RuntimeOperators
from agent.errors import CompatibilityError, IntegrityError
from agent.store.derive import (
    DERIVATIONS,
    Derivation,
    derivation_named,
    derive_variant,
    derived_graphs,
    load_derived,
    read_derived,
)
from agent.store.disk import Disk
from agent.store.inspect_graph import inspect_graph
from agent.store.manifest import read_manifest
from agent.store.rewrite import dequantise, dequantise_to_fp16, to_fp16
from agent.store.rewrite_signed import NothingToDo
from agent.types import StreamOptions
from tests.unit.engine.graphs import SHARED, Files
from tests.unit.store.signed import products_saturate

INT8_GRAPHS = [
    "models/builtin-vad/model_quant.onnx",
    "models/builtin-offline/model_quant.onnx",
    "models/builtin-online/model_quant.onnx",
    "models/builtin-online/decoder_quant.onnx",
    "shared/models/fsmn-vad/model_quant.onnx",
    "shared/models/lab-tiny-offline/model_quant.onnx",
    "shared/models/lab-tiny-online/model_quant.onnx",
    "shared/models/lab-tiny-online/decoder_quant.onnx",
]
INT8_ERROR = 0.05
"""Largest difference that dynamic int8 makes, of the largest value of an output."""
FP16_ERROR = 0.002
FRAMES = 20
ROWS, COLUMNS = 6, 4
MANIFEST = """
schema: 1
id: tiny
family: adder
task: vad
license: none
sample_rate: 16000
variants: [{name: int8, provider: cpu, graphs: {model: model_quant.onnx}}]
"""


def facts(data):
    return inspect_graph(data, "m", runtime=RuntimeOperators(""))


def session(data):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def outputs(data):
    """Every output for the same random inputs."""
    graph, random = session(data), np.random.default_rng(0)
    feeds = {}
    for port in graph.get_inputs():
        shape = [
            size if isinstance(size, int) else FRAMES if axis else 1
            for axis, size in enumerate(port.shape)
        ]
        if port.type == "tensor(int32)":
            feeds[port.name] = np.full(shape, FRAMES, np.int32)
        else:
            feeds[port.name] = random.standard_normal(shape).astype(np.float32)
    names = [port.name for port in graph.get_outputs()]
    return dict(zip(names, graph.run(None, feeds), strict=True))


def difference(found, wanted):
    """Largest relative difference of any output; ids may flip where random inputs mean nothing."""
    assert {n: (v.shape, v.dtype) for n, v in found.items()} == {
        n: (v.shape, v.dtype) for n, v in wanted.items()
    }
    return max(
        float(np.abs(found[name] - value).max() / (np.abs(value).max() or 1))
        for name, value in wanted.items()
        if value.dtype == np.float32
    )


@pytest.fixture
def int8_graph(root, request):
    name = request.param
    path = SHARED.parent / name if name.startswith("shared/") else root / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path.read_bytes()


@pytest.mark.parametrize("int8_graph", INT8_GRAPHS, indirect=True)
def test_a_published_int8_graph_becomes_fp32_and_fp16_with_the_same_results(int8_graph):
    whole, half = dequantise(int8_graph, "m"), dequantise_to_fp16(int8_graph, "m")
    for data in (whole, half):
        onnx.checker.check_model(data)
        assert facts(data).quantised == "none"
    assert len(half) < 0.6 * len(whole)
    exact = outputs(whole)
    assert difference(outputs(int8_graph), exact) < INT8_ERROR
    assert difference(outputs(half), exact) < FP16_ERROR


@pytest.mark.parametrize("folder", ["models/builtin-vad", "../shared/models/fsmn-vad"])
def test_the_fp32_that_was_quantised_comes_back(root, folder):
    """Operator by operator, and as near as eight bits of each weight allow."""
    if not (root / folder).is_dir():
        pytest.skip(f"{folder} is not on this machine")
    true = (root / folder / "model.onnx").read_bytes()
    data = dequantise((root / folder / "model_quant.onnx").read_bytes(), "m")
    counts = [{**facts(graph).operators} for graph in (data, true)]
    for count in counts:
        # What the quantiser's optimiser folds: constants, casts of float to float.
        for folded in ("Constant", "Cast"):
            count.pop(folded, None)
    assert counts[0] == counts[1]
    assert len(data) == pytest.approx(len(true), rel=0.01)
    assert difference(outputs(data), outputs(true)) < INT8_ERROR


@pytest.mark.parametrize("rewrite", [dequantise, dequantise_to_fp16])
@pytest.mark.parametrize("model_id", ["builtin-offline", "builtin-online"])
def test_derived_graphs_read_the_same_tokens(root, model_id, rewrite):
    folder = root / "models" / model_id
    manifest = read_manifest(folder)
    side = {name: (folder / name).read_bytes() for name in manifest.files}
    graphs = {role: side[name] for role, name in manifest.variants[0].graphs.items()}
    derived = {role: rewrite(data, role) for role, data in graphs.items()}
    audio, _ = soundfile.read(folder / "golden.wav", dtype="int16")
    read = []
    for used in (graphs, derived):
        model = load_model(manifest.family, Files(side, used), EngineSettings())
        if manifest.task == "asr_offline":
            read.append(model.decode([audio], StreamOptions())[0].tokens)
        else:
            stream = model.start_stream(StreamOptions())
            stream.accept(audio)
            read.append(stream.finish().tokens)
    assert read[0] == read[1]
    assert read[0]


def test_an_fp32_graph_becomes_half_precision_between_fp32_ends(root):
    data = (root / "models/builtin-vad/model.onnx").read_bytes()
    half = to_fp16(data, "m")
    onnx.checker.check_model(half)
    assert {port.type for port in session(half).get_inputs()} == {"tensor(float)"}
    assert {port.type for port in session(half).get_outputs()} == {"tensor(float)"}
    kinds = {t.data_type for t in onnx.load_model_from_string(half).graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert difference(outputs(half), outputs(data)) < FP16_ERROR


def quantised(*more, kind=np.uint8, zero="wz", scale_shape=(COLUMNS,), factor="ws", outputs=("y",)):
    """x f32[1,n,6] times an int8 matrix, as ONNX Runtime's quantiser writes it, and what the
    matrix is in fp32."""
    random = np.random.default_rng(0)
    low = np.iinfo(kind).min
    weight = random.integers(low, low + 256, (ROWS, COLUMNS)).astype(kind)
    zeros = random.integers(low + 100, low + 150, COLUMNS).astype(kind)
    scale = random.uniform(0.01, 0.1, scale_shape).astype(np.float32)
    inputs = ["xq", "w_quantized", "xz", zero] if zero else ["xq", "w_quantized", "xz"]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"], name="quantise"),
        helper.make_node("MatMulInteger", inputs, ["product"], name="foo_quant"),
        helper.make_node("Cast", ["product"], ["cast"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", factor], ["factor"], name="factor"),
        helper.make_node("Mul", ["cast", "factor"], ["y"], name="mul"),
        *more,
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", ROWS])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [
        numpy_helper.from_array(weight, "w_quantized"),
        numpy_helper.from_array(zeros, "wz"),
        numpy_helper.from_array(scale, "ws"),
    ]
    graph = helper.make_graph(nodes, "g", [x], ends, tensors)
    imports = [helper.make_opsetid("", 14)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    offset = zeros.astype(np.float32) if zero else np.float32(0)
    return model.SerializeToString(), (weight.astype(np.float32) - offset) * scale


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"kind": np.int8},
        {"zero": ""},
        {"scale_shape": ()},
        {"scale_shape": (1,), "kind": np.int8, "zero": ""},
    ],
    ids=["uint8", "int8", "no zero point", "one scale", "int8, one scale, no zero point"],
)
def test_a_weight_is_what_the_int8_stands_for(form):
    data, wanted = quantised(**form)
    graph = onnx.load_model_from_string(dequantise(data, "m")).graph
    assert [(n.op_type, n.name, [*n.input], [*n.output]) for n in graph.node] == [
        ("MatMul", "foo", ["x", "w_fp32"], ["y"])
    ]
    (weight,) = graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), wanted)


def test_a_weight_used_twice_is_written_once():
    again = [
        helper.make_node("MatMulInteger", ["xq", "w_quantized", "xz", "wz"], ["product2"]),
        helper.make_node("Cast", ["product2"], ["cast2"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["xs", "ws"], ["factor2"]),
        helper.make_node("Mul", ["factor2", "cast2"], ["y2"]),
    ]
    data, _ = quantised(*again, outputs=("y", "y2"))
    graph = onnx.load_model_from_string(dequantise(data, "m")).graph
    assert [n.op_type for n in graph.node] == ["MatMul", "MatMul"]
    assert [t.name for t in graph.initializer] == ["w_fp32"]


@pytest.mark.parametrize(
    "form",
    [{"outputs": ("y", "product")}, {"factor": "xs"}, {"zero": "xz"}],
    ids=["product read twice", "no scale of the weights", "zero point that is no constant"],
)
def test_what_can_not_be_turned_back_is_named(form):
    data, _ = quantised(**form)
    with pytest.raises(CompatibilityError) as caught:
        dequantise(data, "m/model.onnx")
    assert caught.value.message.startswith("m/model.onnx: can't be turned back to fp32: ")
    assert 'MatMulInteger (node "foo_quant")' in caught.value.message


def test_int8_of_another_recipe_is_named(root):
    model = onnx.load_model_from_string((root / "models/builtin-vad/model.onnx").read_bytes())
    model.graph.node.add(op_type="ConvInteger", name="odd", input=["speech"], output=["odd_y"])
    model.graph.output.add(name="odd_y")
    with pytest.raises(CompatibilityError, match=r'ConvInteger \(node "odd"\); use its int8 form'):
        dequantise(model.SerializeToString(), "m")


@pytest.mark.parametrize("cut", ["w_quantized", "ws"])
def test_a_malformed_weight_is_refused(cut):
    data, _ = quantised()
    model = onnx.load_model_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.name == cut)
    tensor.raw_data = tensor.raw_data[:-4]
    with pytest.raises(CompatibilityError, match="is malformed"):
        dequantise(model.SerializeToString(), "m")


def test_a_graph_without_int8_keeps_its_numbers(root):
    data = (root / "models/builtin-vad/model.onnx").read_bytes()
    assert difference(outputs(dequantise(data, "m")), outputs(data)) == 0


def test_derivations_are_known_by_name_and_provider(root):
    int8 = facts((root / "models/builtin-vad/model_quant.onnx").read_bytes())
    fp32 = facts((root / "models/builtin-vad/model.onnx").read_bytes())
    found = {d.name: (d.provider, d.applies(int8), d.applies(fp32)) for d in DERIVATIONS}
    assert found == {
        "fp32-from-int8": ("cuda", True, False),
        "fp16-from-int8": ("cuda", True, False),
        "fp16-from-fp32": ("cuda", False, True),
        "lean-by-stream": ("cpu", True, False),
        "lean-s8": ("cpu", True, False),
        "s8-by-stream": ("cpu", True, False),
        "s8-from-u8": ("cpu", True, False),
        "optimised": ("cpu", True, True),
    }
    for derivation in DERIVATIONS:
        assert derivation_named(derivation.name) is derivation
    with pytest.raises(CompatibilityError, match="no variant 'fp8' can be derived"):
        derivation_named("fp8")


class RecordingDisk(Disk):
    """Notes what is made durable, in order."""

    def __init__(self):
        self.done = []

    @contextmanager
    def create(self, path, mode=0o644):
        with super().create(path, mode) as file:
            yield file
        self.done.append(("file", path.name))

    def replace(self, source, target):
        super().replace(source, target)
        self.done.append(("rename", target.name))

    def sync_folder(self, folder):
        super().sync_folder(folder)
        self.done.append(("folder", folder.name))


@pytest.fixture
def model(tmp_path):
    """A model of one tiny int8 graph: its manifest and folder."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    return write_model(folder, quantised()[0]), folder


def write_model(folder, data):
    (folder / "model_quant.onnx").write_bytes(data)
    tree = yaml.safe_load(MANIFEST)
    listed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    tree["files"] = {"model_quant.onnx": listed}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(tree))
    return read_manifest(folder)


@pytest.fixture
def derive(model, tmp_path):
    manifest, folder = model

    def make(derivation=DERIVATIONS[0], disk=None):
        variant = manifest.variants[0]
        where = tmp_path / "derived" / "tiny@1"
        return derive_variant(manifest, folder, variant, derivation, where, disk or Disk())

    return make


def test_a_derived_variant_is_found_again_and_read_as_it_was_written(model, derive):
    manifest, folder = model
    made = derive()
    parent = made.folder.parent
    assert load_derived(parent, "fp32-from-int8", manifest) == made
    assert (made.provider, dict(made.graphs)) == ("cuda", {"model": "model.onnx"})
    wanted = dequantise((folder / "model_quant.onnx").read_bytes(), "m")
    assert read_derived(made) == {"model": wanted} == derived_graphs(made.folder, manifest)
    record = json.loads((made.folder / "derived.json").read_text())
    assert record["source"] == {"model_quant.onnx": manifest.files["model_quant.onnx"].sha256}
    assert record["files"]["model.onnx"]["size"] == len(wanted)
    assert set(record["tool"]) == {"funasr-agent", "onnx"}
    assert made.sha256 == hashlib.sha256((made.folder / "derived.json").read_bytes()).hexdigest()


def test_everything_is_synced_before_it_gets_its_name(derive):
    disk = RecordingDisk()
    derive(disk=disk)
    rename = disk.done.index(("rename", "fp32-from-int8"))
    before = disk.done[:rename]
    for written in (("file", "model.onnx"), ("file", "derived.json")):
        assert before.index(written) < before.index(("folder", "fp32-from-int8.new"))
    assert ("folder", "tiny@1") in disk.done


def test_what_an_interrupted_derivation_left_is_cleared(derive):
    made = derive()
    left = made.folder.with_name("fp32-from-int8.new")
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    assert derive() == made
    assert [path.name for path in made.folder.parent.iterdir()] == ["fp32-from-int8"]


def test_a_derivation_that_fails_leaves_what_was_there(derive):
    made = derive()

    def fail(data, name):
        raise CompatibilityError("can't be rewritten", file=name)

    with pytest.raises(CompatibilityError, match=r"tiny/model_quant\.onnx"):
        derive(replace(DERIVATIONS[0], rewrite=fail))
    assert read_derived(made)
    assert [path.name for path in made.folder.parent.iterdir()] == ["fp32-from-int8"]


def test_nothing_is_derived_from_a_damaged_source(model, derive):
    _, folder = model
    (folder / "model_quant.onnx").write_bytes(b"changed")
    with pytest.raises(IntegrityError):
        derive()


def test_what_was_derived_from_other_weights_is_stale(model, derive):
    _, folder = model
    made = derive()
    other = write_model(folder, quantised(kind=np.int8)[0])
    assert load_derived(made.folder.parent, "fp32-from-int8", other) is None
    with pytest.raises(IntegrityError, match=r"fp32-from-int8/derived\.json"):
        derived_graphs(made.folder, other)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"derivation": "fp16-from-int8"},
        {"revision": 2},
        {"variant": "other"},
        {"files": {}},
        {"files": {"../model.onnx": {"size": 1, "sha256": "0" * 64}}},
        {"files": {"model.onnx": {"size": "1", "sha256": "0" * 64}}},
        {"files": ["model.onnx"]},
        {"graphs": {"model": "../model.onnx"}},
    ],
)
def test_a_record_of_another_kind_is_stale(model, derive, change):
    manifest, _ = model
    made = derive()
    path = made.folder / "derived.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert load_derived(made.folder.parent, "fp32-from-int8", manifest) is None


@pytest.mark.parametrize("record", [b"", b"[]", b"null", b"\xff", b"{", b" " * 70000])
def test_a_damaged_record_is_stale(model, derive, record):
    manifest, _ = model
    made = derive()
    (made.folder / "derived.json").write_bytes(record)
    assert load_derived(made.folder.parent, "fp32-from-int8", manifest) is None


def test_nothing_was_derived_where_there_is_nothing(model, tmp_path):
    manifest, _ = model
    assert load_derived(tmp_path, "fp32-from-int8", manifest) is None
    assert load_derived(tmp_path, "fp8-from-int8", manifest) is None


def test_a_derived_graph_that_changed_is_refused(derive):
    made = derive()
    path = made.folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_derived(made)
    assert caught.value.message.startswith("model.onnx: sha256 is ")
    assert caught.value.message.endswith(f"; delete the folder {made.folder}, it is made anew")
    path.write_bytes(data[:-1])
    with pytest.raises(IntegrityError, match="size is"):
        read_derived(made)


def test_a_link_in_place_of_a_derived_graph_is_refused(derive, tmp_path):
    made = derive()
    path = made.folder / "model.onnx"
    os.replace(path, tmp_path / "elsewhere.onnx")
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(IntegrityError, match="symbolic link"):
        read_derived(made)


SIGNED = derivation_named("s8-from-u8")


def test_a_derivation_of_ones_own_fits_in_as_well(derive):
    same = Derivation("other", "cpu", lambda facts: True, lambda data, name: data)
    made = derive(same)
    assert (made.name, made.provider) == ("other", "cpu")
    assert facts(read_derived(made)["model"]).quantised == "dynamic_int8"


def test_signed_weights_are_stored_as_the_runtime_optimises_them(model, derive):
    manifest, folder = model
    made = derive(SIGNED)
    assert load_derived(made.folder.parent, "s8-from-u8", manifest) == made
    data = read_derived(made)["model"]
    assert data.endswith(ort.optimised_mark())
    graph = onnx.load_model_from_string(data).graph
    assert "DynamicQuantizeMatMul" in {node.op_type for node in graph.node}
    assert TensorProto.INT8 in {t.data_type for t in graph.initializer}
    (before,) = outputs((folder / "model_quant.onnx").read_bytes()).values()
    (after,) = outputs(data).values()
    assert products_saturate() or before.tobytes() == after.tobytes()
    assert sorted(p.name for p in made.folder.iterdir()) == ["derived.json", "model.onnx"]


def test_an_optimised_graph_is_tied_to_runtime_and_cpu(model, derive):
    manifest, _ = model
    made = derive(SIGNED)
    path = made.folder / "derived.json"
    record = json.loads(path.read_text())
    assert set(record["box"]) == {"onnxruntime", "machine", "cpu"}
    for part in record["box"]:
        other = {**record, "box": {**record["box"], part: "another"}}
        path.write_text(json.dumps(other))
        assert load_derived(made.folder.parent, "s8-from-u8", manifest) is None
        with pytest.raises(IntegrityError, match="it is made anew"):
            derived_graphs(made.folder, manifest)


def test_a_graph_without_unsigned_weights_is_kept_beside_one_that_has_some(tmp_path):
    """An int8 encoder with a hotword encoder in fp32."""
    folder = tmp_path / "two"
    folder.mkdir()
    files = {"a.onnx": quantised()[0], "b.onnx": dequantise(quantised()[0], "b")}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    tree = yaml.safe_load(MANIFEST)
    tree["files"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    both, plain = ({"model": "a.onnx", "model_eb": "b.onnx"}, {"model": "b.onnx"})
    tree["variants"] = [
        {"name": name, "provider": "cpu", "graphs": graphs}
        for name, graphs in (("int8", both), ("fp32", plain))
    ]
    (folder / "manifest.yaml").write_text(yaml.safe_dump(tree))
    manifest = read_manifest(folder)
    int8, fp32 = manifest.variants
    where = tmp_path / "derived"
    made = derive_variant(manifest, folder, int8, SIGNED, where, Disk())
    graphs = read_derived(made)
    assert set(graphs) == {"model", "model_eb"}
    assert all(data.endswith(ort.optimised_mark()) for data in graphs.values())
    with pytest.raises(NothingToDo):
        derive_variant(manifest, folder, fp32, SIGNED, where, Disk())
    assert read_derived(made) == graphs
    assert [path.name for path in where.iterdir()] == ["s8-from-u8"]
