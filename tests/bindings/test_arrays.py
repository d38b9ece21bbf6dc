# SPDX-License-Identifier: Apache-2.0
"""Foreign memory: NumPy of every layout, DLPack, the buffer protocol; what is refused and how."""

import array
import ctypes

import numpy as np
import pytest

from fusednn import _core, ops


def relu(x, **options):
    return ops.activation_forward(x, "relu", **options)


BASE = np.arange(-60, 60, dtype=np.float64).reshape(10, 12)


class OnlyDLPack:
    """An array that speaks nothing but DLPack; `versions` False: as before there were any."""

    def __init__(self, values, versions=True, device=(1, 0)):
        self.values = values
        self.versions = versions
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **options):
        if not self.versions:
            if options:
                raise TypeError("unexpected keyword argument 'max_version'")
            return self.values.__dlpack__()
        return self.values.__dlpack__(**options)


# ---- layouts -------------------------------------------------------------------------------------


def layouts():
    big_endian = BASE.astype(">f8").astype("=f8")
    read_only = BASE.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + BASE.tobytes(), np.float64, offset=1).reshape(BASE.shape)
    record = np.zeros((10, 12), [("a", np.int32), ("x", np.float64)])
    record["x"] = BASE
    return {
        "contiguous": BASE,
        "big endian made native": big_endian,
        "read-only": read_only,
        "unaligned": unaligned,
        "field of a record": record["x"],
        "transposed": BASE.T,
        "Fortran": np.asfortranarray(BASE),
        "rows apart": BASE[:, 2:9],
        "every second row": BASE[::2],
        "every second column": BASE[:, ::2],
        "backwards": BASE[::-1],
        "mirrored": BASE[:, ::-1],
        "broadcast": np.broadcast_to(BASE[0], (5, 12)),
        "broadcast columns": np.broadcast_to(BASE[:, :1], (10, 3)),
        "one row": BASE[3:4, 1:],
        "one column": BASE[:, 3:4],
        "no rows": BASE[:0],
        "no columns": BASE[:, :0],
        "three axes": BASE.reshape(2, 5, 12)[:, 1:4, ::3],
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layout_is_read(layout, dtype):
    x = layouts()[layout]
    if dtype != np.float64:
        x = x.astype(dtype, order="K")
    before = x.tobytes()
    np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
    assert relu(x).dtype == dtype
    if x.size:
        shifted = x - x.max(axis=-1, keepdims=True)
        want = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(ops.softmax(x), want, rtol=1e-5)
    if x.shape[-1]:
        w = np.ones((x.shape[-1], 2), dtype)
        np.testing.assert_allclose(ops.dense_forward(x, w), x @ w, rtol=1e-5)
    assert x.tobytes() == before


def test_numbers_lists_and_scalars():
    assert relu(-1.5).shape == ()
    assert relu(-1.5) == 0
    assert relu(np.float32(2)).dtype == np.float32
    assert relu([1, 2]).dtype == np.float64
    assert relu([[1.0, -2.0]]).tolist() == [[1.0, 0.0]]
    x = np.ones((2, 1), np.float32)
    assert ops.dense_forward(x, [[2.0, 3.0]], [1, 1]).dtype == np.float32


def test_buffer_protocol():
    assert relu(array.array("d", [-1, 2])).tolist() == [0, 2]
    assert relu(array.array("f", [-1, 2])).dtype == np.float32
    assert relu(memoryview(BASE)[2:4]).tolist() == np.maximum(BASE[2:4], 0).tolist()
    assert relu((ctypes.c_double * 2)(-1, 2)).tolist() == [0, 2]
    out = array.array("d", [7, 7])
    assert relu([-1.0, 2.0], out=out) is out
    assert out.tolist() == [0, 2]


def test_memory_is_let_go():
    x = bytearray(np.ones(3).tobytes())
    relu(memoryview(x).cast("d"))
    x.append(1)  # fails while anybody looks at the memory


# ---- DLPack --------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "rows apart", "backwards"])
def test_dlpack(versions, layout):
    x = layouts()[layout]
    np.testing.assert_array_equal(relu(OnlyDLPack(x, versions)), np.maximum(x, 0))


@pytest.mark.parametrize("versions", [True, False])
def test_dlpack_out(versions):
    x = BASE.copy()
    out = OnlyDLPack(x, versions)
    assert relu(out, out=out) is out
    np.testing.assert_array_equal(x, np.maximum(BASE, 0))


def test_dlpack_read_only_is_not_written_to():
    x = BASE.copy()
    x.flags.writeable = False
    try:
        x.__dlpack__(max_version=(1, 0))
    except (TypeError, BufferError):
        pytest.skip("this NumPy cannot export it")
    with pytest.raises(ValueError, match="out: is read-only"):
        relu(BASE, out=OnlyDLPack(x))


def test_other_devices_are_named():
    with pytest.raises(ValueError, match="x: lies on the device cuda"):
        relu(OnlyDLPack(BASE, device=(2, 0)))
    with pytest.raises(ValueError, match="device metal"):
        relu(OnlyDLPack(BASE, device=(8, 0)))
    with pytest.raises(ValueError, match="device number 99"):
        relu(OnlyDLPack(BASE, device=(99, 0)))


def test_a_dlpack_that_fails_is_an_error_of_the_argument():
    class Broken(OnlyDLPack):
        def __dlpack__(self, **options):
            raise BufferError("not today")

    class NoCapsule(OnlyDLPack):
        def __dlpack__(self, **options):
            return 7

    with pytest.raises(ValueError, match=r"x: could not be read through __dlpack__.*not today"):
        relu(Broken(BASE))
    with pytest.raises(ValueError, match="no unused capsule"):
        relu(NoCapsule(BASE))
    with pytest.raises((ValueError, TypeError), match="x:"):
        relu(OnlyDLPack(BASE, device="cpu"))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x = torch.arange(-3, 3, dtype=torch.float32)
    assert relu(x).tolist() == [0, 0, 0, 0, 1, 2]
    relu(x, out=x)
    assert x.tolist() == [0, 0, 0, 0, 1, 2]
    y = torch.randn(4, 6)[:, 1:5]
    np.testing.assert_array_equal(relu(y.T), np.maximum(y.T.numpy(), 0))
    labels = torch.tensor([1, 0])
    assert ops.loss("softmax_cross_entropy", torch.zeros(2, 2), labels)[0] == pytest.approx(
        np.log(2)
    )
    with pytest.raises(ValueError, match="grad"):
        relu(torch.zeros(2, requires_grad=True))
    with pytest.raises(TypeError, match="bfloat16"):
        relu(torch.zeros(2, dtype=torch.bfloat16))


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.ones(3, np.int64),
        np.ones(3, np.float16),
        np.ones(3, np.complex128),
        np.ones(3, bool),
        np.ones(3, ">f8"),
        np.ones(3, object),
        np.array(["a"]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.zeros(3, [("a", np.float64)]),
        ["a", "b"],
        [1 + 2j],
        [None],
        {"a": 1},
        {1.0},
        None,
        "text",
        b"bytes",
        object(),
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_elements_are_type_errors(value):
    with pytest.raises(TypeError, match=r"^x: "):
        relu(value)


def test_ragged_lists():
    with pytest.raises(ValueError, match=r"^x: "):
        relu([[1.0], [1.0, 2.0]])


def test_mixed_dtypes_name_both():
    x, w = np.ones((2, 3), np.float32), np.ones((3, 2))
    with pytest.raises(TypeError, match="w: has elements float64, expected float32 as x"):
        ops.dense_forward(x, w)


def outs():
    read_only = np.zeros(BASE.shape)
    read_only.flags.writeable = False
    return {
        "read-only": (read_only, ValueError, "read-only"),
        "shape": (np.zeros((10, 11)), ValueError, r"shape \(10, 11\), expected \(10, 12\)"),
        "dtype": (np.zeros(BASE.shape, np.float32), TypeError, "float32, expected float64"),
        "transposed": (np.zeros(BASE.shape[::-1]).T, ValueError, "strides"),
        "backwards": (np.zeros(BASE.shape)[::-1], ValueError, "strides"),
        "broadcast": (np.broadcast_to(0.0, BASE.shape), ValueError, "read-only"),
        "list": ([0.0], TypeError, "cannot be written to"),
        "number": (1.0, TypeError, "cannot be written to"),
        "bytes": (b"abc", TypeError, "uint8"),
        "text": ("abc", TypeError, "out: "),
    }


@pytest.mark.parametrize("kind", outs())
@pytest.mark.parametrize("op", [relu, ops.softmax])
def test_wrong_outs(kind, op):
    out, error, match = outs()[kind]
    before = bytes(np.asarray(out).tobytes())
    with pytest.raises(error, match=match):
        op(BASE, out=out)
    assert bytes(np.asarray(out).tobytes()) == before


def test_out_with_rows_apart():
    ground = np.full((10, 20), 7.0)
    y = ops.softmax(BASE, out=ground[:, 3:15])
    np.testing.assert_array_equal(y, ops.softmax(BASE))
    assert (ground[:, :3] == 7).all()
    assert (ground[:, 15:] == 7).all()


# ---- arrays that overlap -------------------------------------------------------------------------


def test_out_that_overlaps_an_input():
    ground = np.arange(24.0)
    want = relu(ground[:20] - 9)
    ground -= 9
    np.testing.assert_array_equal(relu(ground[:20], out=ground[4:]), want)

    ground = np.random.default_rng(0).standard_normal((6, 6))
    x, w, b = ground[:, :3].copy(), ground[:3, 3:].copy(), ground[5, 3:].copy()
    want = ops.dense_forward(x, w, b)
    got = ops.dense_forward(ground[:, :3], ground[:3, 3:], ground[5, 3:], out=ground[:, 3:])
    np.testing.assert_array_equal(got, want)

    dy, y = np.random.default_rng(1).standard_normal((2, 4, 5))
    want = ops.softmax_backward(dy, y)
    np.testing.assert_array_equal(ops.softmax_backward(dy.copy(), y, out=y), want)


def test_an_optimizer_refuses_shared_memory():
    ground = np.ones(10)
    state = ops.init_optimizer_state("momentum", [ground[:4], ground[4:8]])
    step = {"step": 1, "lr": 0.1}
    for p, g in [
        ([ground[:4], ground[3:7]], [np.ones(4), np.ones(4)]),
        ([ground[:4], ground[4:8]], [ground[1:5], np.ones(4)]),
        ([ground[:4], ground[:4]], [np.ones(4), np.ones(4)]),
    ]:
        with pytest.raises(ValueError, match="share memory"):
            ops.optimizer_step("momentum", p, g, state, **step)
    assert (ground == 1).all()
    # Gradients are only read, so they may be one array.
    g = np.ones(4)
    ops.optimizer_step("momentum", [ground[:4], ground[4:8]], [g, g], state, **step)
    np.testing.assert_allclose(ground[:8], 0.9)


# ---- labels --------------------------------------------------------------------------------------


def test_labels_of_every_integer_type():
    x = np.random.default_rng(0).standard_normal((3, 4))
    want = ops.loss("softmax_cross_entropy", x, [0, 3, 1])
    for dtype in "bBhHiIlLqQ":
        got = ops.loss("softmax_cross_entropy", x, np.array([0, 3, 1], dtype))
        assert got[0] == want[0]
    spaced = np.zeros((3, 2), np.int64)
    spaced[:, 0] = [0, 3, 1]
    assert ops.loss("softmax_cross_entropy", x, spaced[:, 0])[0] == want[0]


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        (np.array([0, 4]), ValueError, r"from 0 to 4, expected them in \[0, 4\)"),
        (np.array([-1, 0]), ValueError, "from -1"),
        (np.array([0, 2**63], np.uint64), ValueError, "9223372036854775808"),
        (np.array([0]), ValueError, r"shape \(1,\), expected \(2,\)"),
        (np.array([[0], [1]]), TypeError, "int64"),
        (np.array([0.0, np.nan]), ValueError, r"shape \(2,\), expected \(2, 4\)"),
        (np.array([False, True]), TypeError, "bool"),
        (np.array(["a", "b"]), TypeError, "targets"),
    ],
)
def test_wrong_labels(labels, error, match):
    with pytest.raises(error, match=match):
        ops.loss("softmax_cross_entropy", np.zeros((2, 4)), labels)


def test_network_takes_arrays_only_as_they_lie():
    nodes = [
        {"type": "input", "name": "x", "inputs": [], "config": {"shape": [3]}},
        {"type": "dense", "name": "d", "inputs": [0], "config": {"units": 2}},
    ]
    network = _core.Network(nodes)
    for bad, error in [
        (np.zeros((4, 3)), TypeError),
        (np.zeros((4, 6), np.float32)[:, ::2], ValueError),
        (np.zeros((4, 2), np.float32), ValueError),
        (np.zeros((), np.float32), ValueError),
    ]:
        with pytest.raises(error, match=r"inputs\[0\]: "):
            network.predict([bad], [1])
    assert network.predict([np.zeros((0, 3), np.float32)], [1])[0].shape == (0, 2)
