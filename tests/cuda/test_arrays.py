"""Arrays of other libraries are taken without a copy, ours are handed over, misfits are named."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from fastseg.cuda import dlpack
from fastseg.cuda.arrays import HOST, DeviceArray, device_array
from fastseg.errors import DeviceArrayError


class OnDevice:
    """An array of another library, known by its interface alone."""

    def __init__(self, shape=(2, 3), **changes):
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (4096, False),
            "strides": None,
            "stream": 17,
            "version": 3,
        } | changes


class Lent:
    """Device memory of another library, handed over by DLPack alone."""

    def __init__(self, device=(dlpack.CUDA, 1), strides=None):
        self.asked = []
        self._device, self._strides = device, strides

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, *, stream=None):
        self.asked.append(stream)
        content = dlpack.Content(4096, (2, 3), None, np.dtype("f2"), self._device, self)
        return dlpack.give(content)


def test_an_array_on_a_device_is_viewed_where_it_is():
    array = OnDevice()
    view = device_array(array, "x", device="cuda:0", dtype=np.float32, shape=(2, None))
    assert (view.address, view.shape, view.dtype) == (4096, (2, 3), np.float32)
    assert view.owner is array
    assert view.stream == 17
    assert view.nbytes == 24


def test_before_version_3_an_array_belongs_to_the_default_stream():
    array = OnDevice(version=2)
    del array.__cuda_array_interface__["stream"]
    assert device_array(array, "x").stream == 1


def test_before_version_3_the_stream_comes_from_dlpack():
    class Both(Lent):
        __cuda_array_interface__ = OnDevice(version=2).__cuda_array_interface__

    array = Both(device=(dlpack.CUDA, 0))
    view = device_array(array, "x", stream=23)
    assert (array.asked, view.dtype) == ([23], np.float16)


def test_an_array_without_a_stream_is_ready():
    assert device_array(OnDevice(stream=None), "x").stream is None


@pytest.mark.parametrize(("attribute", "number"), [("index", 2), ("id", 3)])
def test_the_number_of_the_device_is_asked_of_the_library(attribute, number):
    array = OnDevice()
    array.device = type("Device", (), {attribute: number})()
    assert device_array(array, "x").device == f"cuda:{number}"


def test_a_host_array_is_viewed_where_it_is():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    view = device_array(array, "x", device=HOST)
    assert view.address == array.ctypes.data
    array[0, 0] = 99
    assert np.asarray(view)[0, 0] == 99


def test_dlpack_is_taken_in_the_stream_that_will_use_it():
    array = Lent()
    view = device_array(array, "x", device="cuda:1", stream=23)
    assert array.asked == [23]
    assert (view.address, view.shape, view.dtype, view.stream) == (4096, (2, 3), np.float16, None)
    # Without one it is made ready in the default stream, and whoever uses it must wait for that.
    assert device_array(array, "x").stream == 1
    assert array.asked == [23, 1]


def test_a_tensor_of_torch_is_taken_without_a_copy():
    torch = pytest.importorskip("torch", reason="takes a torch tensor")
    tensor = torch.arange(12, dtype=torch.float16).reshape(3, 4)
    view = device_array(tensor, "x", device=HOST, dtype=np.float16, shape=(3, 4))
    assert view.address == tensor.data_ptr()


def test_torch_and_numpy_take_ours_without_a_copy():
    torch = pytest.importorskip("torch", reason="hands to torch")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    view = device_array(array, "x")
    assert torch.from_dlpack(view).data_ptr() == array.ctypes.data
    assert np.from_dlpack(view).ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(np.from_dlpack(view), array)


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "u4", "f2", "f4", "f8", "?"])
def test_what_goes_out_and_comes_in_again_is_the_same(dtype):
    array = np.ones((3, 2), dtype)
    back = device_array(Handed(device_array(array, "x")), "x")
    assert (back.address, back.shape, back.dtype) == (array.ctypes.data, (3, 2), array.dtype)


class Handed:
    """Only the DLPack side of an array."""

    def __init__(self, array):
        self.__dlpack__ = array.__dlpack__
        self._array = array

    def __dlpack__(self, **how):
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Memory:
    """Owner of memory; unlike an array it can be referred to weakly."""


def test_memory_lives_as_long_as_somebody_uses_it():
    owner = Memory()
    alive, array = weakref.ref(owner), np.ones(4, np.float32)
    view = DeviceArray(array.ctypes.data, (4,), array.dtype, HOST, owner)
    taken = np.from_dlpack(view)
    del owner, view
    gc.collect()
    assert alive() is not None
    del taken
    gc.collect()
    assert alive() is None


def test_a_capsule_that_nobody_takes_gives_its_memory_back():
    owner = Memory()
    alive = weakref.ref(owner)
    capsule = DeviceArray(4096, (4,), np.dtype("f4"), "cuda:0", owner).__dlpack__()
    del owner
    gc.collect()
    assert alive() is not None
    del capsule
    gc.collect()
    assert alive() is None


def test_a_capsule_is_taken_once():
    capsule = DeviceArray(4096, (4,), np.dtype("f4"), "cuda:0").__dlpack__()
    dlpack.take(capsule)
    with pytest.raises(DeviceArrayError, match="fresh"):
        dlpack.take(capsule)


def test_unfinished_memory_goes_to_its_own_stream_only():
    view = DeviceArray(4096, (4,), np.dtype("f4"), "cuda:0", stream=17)
    view.__dlpack__(stream=17)
    view.__dlpack__(stream=-1)
    with pytest.raises(BufferError, match="stream 17"):
        view.__dlpack__(stream=18)
    with pytest.raises(BufferError, match="stream 17"):
        view.__dlpack__()


class Making:
    """Notes who waits."""

    def __init__(self):
        self.waited = []

    def hold(self, stream):
        self.waited.append(stream)

    def wait(self):
        self.waited.append("host")


def test_unfinished_memory_is_waited_for_by_its_taker():
    making = Making()
    view = DeviceArray(4096, (4,), np.dtype("f4"), "cuda:0", stream=17, making=making)
    for stream in (17, -1):
        view.__dlpack__(stream=stream)
    assert making.waited == []
    for stream in (18, None, 2):
        view.__dlpack__(stream=stream)
    assert making.waited == [18, 1, 2]
    # Not every library looks at the stream of the interface.
    assert view.part(0, 1).__cuda_array_interface__["stream"] is None
    assert making.waited == [18, 1, 2, "host"]


@pytest.mark.parametrize("how", [{"copy": True}, {"dl_device": (1, 0)}])
def test_a_copy_or_another_device_is_not_made(how):
    with pytest.raises(BufferError):
        DeviceArray(4096, (4,), np.dtype("f4"), "cuda:0").__dlpack__(**how)


def test_parts_lie_in_the_same_memory():
    part = DeviceArray(4096, (5, 3), np.dtype("f4"), "cuda:2").part(2, 4)
    assert (part.address, part.shape) == (4096 + 2 * 12, (2, 3))
    assert part.__dlpack_device__() == (dlpack.CUDA, 2)
    assert part.__cuda_array_interface__["data"] == (part.address, False)


def test_host_and_device_arrays_do_not_pretend_to_be_the_other():
    assert not hasattr(device_array(np.ones(2), "x"), "__cuda_array_interface__")
    assert not hasattr(device_array(OnDevice(), "x"), "__array_interface__")


@pytest.mark.parametrize(
    ("array", "wanted", "said"),
    [
        (OnDevice(), {"device": HOST}, "image lies in the memory of cuda:0"),
        (np.ones(3), {"device": "cuda:0"}, "lies in the memory of host"),
        (Lent(), {"device": "cuda:0"}, "cuda:1"),
        (OnDevice(), {"dtype": np.uint8}, "must be uint8, not float32"),
        (OnDevice(), {"shape": (None, 4)}, r"\(any, 4\), not \(2, 3\)"),
        (OnDevice(), {"shape": (6,)}, r"\(6\), not \(2, 3\)"),
        (OnDevice(strides=(24, 8)), {}, "gaps"),
        (np.ones((4, 6))[:, ::2], {}, "C-contiguous"),
        (np.asfortranarray(np.ones((4, 6))), {}, "C-contiguous"),
        (OnDevice(mask=OnDevice()), {}, "masked"),
        (Lent(device=(4, 0)), {}, "kind 4"),
        ([1, 2, 3], {}, "list"),
        (np.ones(3, "c8"), {"dtype": np.float32}, "complex64"),
    ],
)
def test_what_does_not_fit_is_named(array, wanted, said):
    with pytest.raises(DeviceArrayError, match=said):
        device_array(array, "image", **wanted)


def test_strides_of_a_dense_array_are_fine():
    assert device_array(OnDevice(strides=(12, 4)), "x").shape == (2, 3)
    # No step is ever taken along an axis of one element.
    assert device_array(OnDevice(shape=(1, 3), strides=(999, 4)), "x").shape == (1, 3)


def test_a_tensor_with_gradients_is_refused_with_the_reason():
    torch = pytest.importorskip("torch", reason="takes a torch tensor")
    with pytest.raises(DeviceArrayError, match="grad"):
        device_array(torch.ones(3, requires_grad=True), "weights")


def test_numbers_that_numpy_lacks_are_refused():
    torch = pytest.importorskip("torch", reason="takes a torch tensor")
    with pytest.raises(DeviceArrayError, match="float16 or float32"):
        device_array(torch.ones(3, dtype=torch.bfloat16), "weights")
