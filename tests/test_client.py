"""The client needs no NumPy, and decodes run lengths as COCO does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fastseg import ops
from fastseg.client import Client, Mask
from fastseg.client.mask import decode_counts
from fastseg.errors import MaskError, ServerError


def test_the_client_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, fastseg.client; found = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(found & {'numpy', 'PIL', 'fastapi', 'pydantic', 'click'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("seed", range(5))
def test_pixels_are_those_of_the_run_lengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.random((1, *random.integers(1, 40, 2))) < random.random()
    rle = ops.rle_from_array(pixels)
    text = ops.rle_to_strings(rle)[0].decode()
    mask = Mask(rle.size, text, 0.9, None, 0, (0, 0, 0, 0), 0)
    assert mask.run_lengths() == rle.lists()[0]
    found = np.frombuffer(mask.pixels(), np.uint8).reshape(rle.size)
    assert np.array_equal(found, pixels[0])


def test_large_differences_of_run_lengths_are_decoded() -> None:
    pixels = np.zeros((1, 3000, 2000), np.bool_)
    pixels[0, 5, 7] = pixels[0, 2000, 1500] = pixels[0, 2000, 1502] = True
    rle = ops.rle_from_array(pixels)
    assert decode_counts(ops.rle_to_strings(rle)[0].decode(), 6_000_000) == rle.lists()[0]


@pytest.mark.parametrize("text", ["", "9", "\x7f", "oooooooooooooo", "é", "59", "o"])
def test_damaged_counts_are_refused(text: str) -> None:
    with pytest.raises(MaskError, match="damaged"):
        decode_counts(text, 12)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8765", "ftp://example.org"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServerError, match="no address"):
        Client(url)


def test_a_server_that_is_not_there_is_an_error() -> None:
    client = Client("http://127.0.0.1:1", timeout=5)
    with pytest.raises(ServerError, match="does not answer") as refused:
        client.about()
    assert refused.value.status == 0
