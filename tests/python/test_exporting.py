# SPDX-License-Identifier: Apache-2.0
"""Exported files: ONNX as onnxruntime computes it and as it is read back, safetensors, refusals."""

import contextlib
import sys
import warnings

import numpy as np
import pytest

import fusednn
from fusednn import importing, layers, safetensors
from random_networks import (
    every_activation,
    outputs_of,
    random_inputs,
    random_network,
    relative_error,
)

NETWORKS = 50
# Of the largest number of an output. In float64 it is onnxruntime's float32 erf that is met.
TOLERANCE = 1e-6
# Other names for an Activation, which random networks have with every rule.
RECTIFIERS = {"relu": layers.ReLU, "leaky_relu": layers.LeakyReLU, "elu": layers.ELU}


@pytest.fixture
def small():
    """A network of a Dense layer and its activation, and their names."""
    chain = [layers.Dense(4, "elu", name="body"), layers.Dense(2, "softmax", name="head")]
    return fusednn.Sequential(chain, input_shape=(3,), name="small", seed=0)


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx")


def run(path, inputs):
    """What onnxruntime computes."""
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def agrees(found, expected, tolerance=TOLERANCE):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert relative_error(mine, theirs) <= tolerance


# ---- random networks -----------------------------------------------------------------------------


def test_random_networks_have_everything():
    networks = [random_network(seed) for seed in range(NETWORKS)]
    found = [layer for network in networks for layer in network._graph.layers]
    kinds = {type(layer).__name__ for layer in found}
    assert kinds == layers._BUILT_IN - {kind.__name__ for kind in RECTIFIERS.values()}
    assert {layer.activation for layer in found if hasattr(layer, "activation")} == set(
        every_activation()
    )
    assert {len(network.inputs) for network in networks} == {1, 2, 3}
    assert max(len(network.outputs) for network in networks) > 2


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(NETWORKS))
def test_onnx_of_random_networks(onnx, tmp_path, seed, precision):
    network = random_network(seed, precision)
    path = tmp_path / "network.onnx"
    network.export(path)
    inputs = random_inputs(network, 32, seed)
    expected = outputs_of(network, inputs)
    agrees(run(path, inputs), expected)
    again = importing.from_onnx(path)
    assert again.precision == precision
    assert again._graph.output_names == network._graph.output_names
    agrees(outputs_of(again, inputs), expected)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("activation", every_activation(), ids=repr)
def test_onnx_of_every_activation(onnx, tmp_path, activation, precision):
    ways = [layers.Activation(activation, name="a")]
    if activation.name in RECTIFIERS:
        ways.append(RECTIFIERS[activation.name](*activation.parameters.values(), name="a"))
    for layer in ways:
        network = fusednn.Sequential([layer], input_shape=(7,))
        network.compile("sgd", "mse", precision=precision)
        path = tmp_path / "network.onnx"
        network.export(path)
        x = np.linspace(-40, 40, 7 * 91).reshape(-1, 7).astype(precision)
        agrees(run(path, [x]), [network.predict(x)])
        again = importing.from_onnx(path)
        assert again.get_layer("a").activation.name == activation.name
        agrees([again.predict(x)], [network.predict(x)])


# ---- what is in the file -------------------------------------------------------------------------


def test_onnx_names_and_versions(onnx, small, tmp_path):
    path = tmp_path / "m.onnx"
    small.export(path)
    file = onnx.load(path)
    assert (file.ir_version, file.opset_import[0].version) == (8, 17)
    assert file.producer_name == "fusednn"
    assert file.graph.name == "small"
    assert [x.name for x in file.graph.output] == ["head"]
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {t.name for t in file.graph.initializer} == {
        "body/kernel", "body/bias", "head/kernel", "head/bias",
    }  # fmt: skip
    assert [node.name for node in file.graph.node] == ["body/dense", "body", "head/dense", "head"]
    again = importing.from_onnx(path)
    assert [layer.name for layer in again.layers] == ["body", "head"]
    assert again.get_layer("body").activation.name == "elu"


def test_onnx_of_outputs_that_are_no_step_of_their_own(onnx, tmp_path):
    x = layers.Input((3,), name="x")
    hidden = layers.Dense(3, name="hidden")(x)
    dropped = layers.Dropout(0.5, name="dropped")(hidden)
    network = fusednn.Model(x, [x, hidden, dropped], seed=0)
    path = tmp_path / "m.onnx"
    network.export(path)
    inputs = random_inputs(network, 5, 0)
    agrees(run(path, inputs), outputs_of(network, inputs))
    agrees(outputs_of(importing.from_onnx(path), inputs), outputs_of(network, inputs))


def test_submodels_and_borrowed_layers(onnx, tmp_path):
    encoder = fusednn.Sequential([layers.Dense(2, "tanh")], input_shape=(8,), seed=0)
    x = layers.Input((8,))
    network = fusednn.Model(x, layers.Dense(8)(encoder(x)), seed=1)
    encoder.weights[0][...] *= 2  # the owner's are what counts
    path = tmp_path / "m.onnx"
    network.export(path)
    inputs = random_inputs(network, 5, 0)
    agrees(run(path, inputs), outputs_of(network, inputs))


# ---- files of others -----------------------------------------------------------------------------


def test_onnx_of_torch(onnx, tmp_path):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Linear(5, 7), nn.SiLU(), nn.BatchNorm1d(7), nn.Linear(7, 6, bias=False), nn.GELU(),
        nn.LayerNorm(6), nn.Dropout(0.5), nn.Linear(6, 4), nn.Mish(), nn.Linear(4, 3),
        nn.Softmax(1),
    ).eval()  # fmt: skip
    x = torch.randn(9, 5)
    path = tmp_path / "torch.onnx"
    with warnings.catch_warnings():  # about the exporter itself
        warnings.simplefilter("ignore")
        torch.onnx.export(theirs, (x,), path, opset_version=17, dynamo=False)
    ours = importing.from_onnx(path)
    np.testing.assert_allclose(
        ours.predict(x.numpy()), theirs(x).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_operators_that_are_no_layer(onnx, small, tmp_path):
    path = tmp_path / "m.onnx"
    small.export(path)
    file = onnx.load(path)

    def refused(match, change):
        changed = onnx.ModelProto.FromString(file.SerializeToString())
        change(changed)
        other = tmp_path / "other.onnx"
        other.write_bytes(changed.SerializeToString())
        with pytest.raises(ValueError, match=rf"other\.onnx: .*{match}"):
            importing.from_onnx(other)

    def operator(name):
        def change(m):
            m.graph.node[1].op_type = name
            del m.graph.node[1].attribute[:]

        return change

    refused("operator Sin that makes 'body' is not what a layer does", operator("Sin"))
    refused("no valid ONNX file", operator("Nonsense"))
    refused("opset is 9, not 13 to", lambda m: setattr(m.opset_import[0], "version", 9))
    refused("no valid ONNX file", lambda m: m.graph.node[1].input.pop())

    def along_rows(m):
        m.graph.node[3].attribute[0].i = 0

    refused("'head'", along_rows)

    def transposed(m):
        m.graph.node[0].attribute.append(onnx.helper.make_attribute("alpha", 2.0))

    refused("operator Gemm that makes 'body/dense' is not x @ kernel", transposed)

    def elsewhere(m):
        array = m.graph.initializer[0]
        array.data_location = array.EXTERNAL
        array.external_data.add(key="location", value="elsewhere.bin")

    refused("lies in another file", elsewhere)


def test_damaged_onnx_is_a_clear_error(onnx, small, tmp_path):
    path = tmp_path / "m.onnx"
    small.export(path)
    data = path.read_bytes()
    damaged = tmp_path / "damaged.onnx"
    for place in range(0, len(data), 3):
        flipped = bytes([data[place] ^ 0xFF])
        for changed in (data[:place], data[:place] + flipped + data[place + 1 :]):
            damaged.write_bytes(changed)
            # A weight may be another one now, or a name; nothing worse happens.
            with contextlib.suppress(ValueError):
                importing.from_onnx(damaged).count_params()
    damaged.write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match=r"damaged\.onnx: it is no ONNX file, or is truncated"):
        importing.from_onnx(damaged)
    with pytest.raises(FileNotFoundError):
        importing.from_onnx(tmp_path / "nowhere.onnx")


# ---- safetensors ---------------------------------------------------------------------------------


def test_safetensors_with_plain_names(small, tmp_path):
    path = tmp_path / "m.safetensors"
    small.export(path)
    tensors, _ = safetensors.read(path)
    assert set(tensors) == {"body/kernel", "body/bias", "head/kernel", "head/bias"}
    other = fusednn.Sequential.from_config(small.get_config())
    other.load_weights(path)
    inputs = random_inputs(small, 4, 0)
    np.testing.assert_array_equal(other.predict(inputs[0]), small.predict(inputs[0]))


def test_safetensors_for_torch(tmp_path):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    load_file = pytest.importorskip("safetensors.torch").load_file
    chain = [
        layers.Dense(4, name="a"),
        layers.BatchNormalization(name="b"),
        layers.Dense(2, name="c"),
    ]
    ours = fusednn.Sequential(chain, input_shape=(3,), seed=0)
    ours.get_layer("b").weights[2][...] = [1, 2, 3, 4]
    path = tmp_path / "m.safetensors"
    ours.export(path, layout="torch")
    nn = torch.nn
    theirs = nn.Sequential()
    theirs.add_module("a", nn.Linear(3, 4))
    theirs.add_module("b", nn.BatchNorm1d(4, eps=1e-3))
    theirs.add_module("c", nn.Linear(4, 2))
    theirs.load_state_dict(load_file(path))
    x = random_inputs(ours, 5, 0)[0]
    want = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.predict(x), want, rtol=1e-5, atol=1e-6)


# ---- refusals ------------------------------------------------------------------------------------


class Halve(layers.CustomLayer):
    def forward(self, x, training):
        return x / 2

    def backward(self, gradient):
        return gradient / 2


@pytest.mark.parametrize("ending", ["onnx", "c"])
@pytest.mark.filterwarnings("ignore::fusednn.interpreter.engine.SlowPathWarning")
def test_layers_written_in_python_are_refused(tmp_path, ending):
    pytest.importorskip("onnx")
    network = fusednn.Sequential([Halve(name="half")], input_shape=(2,))
    with pytest.raises(ValueError, match="layer 'half' is written in Python"):
        network.export(tmp_path / f"m.{ending}")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused(small, tmp_path):
    path = tmp_path / "m.c"
    path.write_text("the old file")
    small.weights[1][0] = np.nan
    with pytest.raises(ValueError, match="bias of layer 'body' is not finite"):
        small.export(path)
    assert path.read_text() == "the old file"


def test_wrong_arguments(small, tmp_path):
    with pytest.raises(ValueError, match=r"ends with none of \.onnx, \.c, \.safetensors"):
        small.export(tmp_path / "model.bin")
    with pytest.raises(ValueError, match="did you mean 'onnx'"):
        small.export(tmp_path / "m", format="onx")
    with pytest.raises(ValueError, match="name='x' is for C files"):
        small.export(tmp_path / "m.safetensors", name="x")
    with pytest.raises(ValueError, match="layout='torch' is for safetensors files"):
        small.export(tmp_path / "m.c", layout="torch")
    with pytest.raises(ValueError, match="layout='pytorch' is unknown; did you mean 'torch'"):
        small.export(tmp_path / "m.safetensors", layout="pytorch")
    with pytest.raises(ValueError, match="is not built"):
        fusednn.Sequential([layers.Dense(2)]).export(tmp_path / "m.c")
    with pytest.raises(FileNotFoundError):
        small.export(tmp_path / "no" / "m.c")


def test_onnx_is_asked_for_where_it_is_needed(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    small.export(tmp_path / "m.c")
    with pytest.raises(ImportError, match=r"pip install fusednn\[onnx\]"):
        small.export(tmp_path / "m.onnx")
    with pytest.raises(ImportError, match=r"pip install fusednn\[onnx\]"):
        importing.from_onnx(tmp_path / "m.onnx")
