"""An embedding in a file is the embedding that was saved, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastseg.errors import EmbeddingError, OutputError
from fastseg.geometry import Frame
from fastseg.sam.embedding import Embedding
from fastseg.timings import Timings

MODEL = "ab" * 32


def embedding(frame: Frame = Frame((48, 60), 64)) -> Embedding:  # noqa: B008 - frozen
    features = np.random.default_rng(0).standard_normal((256, 4, 4), dtype=np.float32)
    features[0, 0] = [np.finfo(np.float32).tiny / 2, -0.0, np.float32(1) / 3, np.inf]
    return Embedding(features, frame, MODEL, {"keys": features}, Timings(encode=3))


@pytest.mark.parametrize(
    "frame",
    [
        Frame((48, 60), 64),
        Frame((48, 60), 64, (1, 2, 30, 40)),
        Frame((48, 60), 64, (0, 0, 60, 48)),
        Frame((1, 65535), 64),
    ],
)
def test_features_frame_and_model_come_back_bit_for_bit(tmp_path, frame):
    saved = embedding(frame)
    saved.save(tmp_path / "image.npz")
    loaded = Embedding.load(tmp_path / "image.npz")
    assert loaded.features.tobytes() == saved.features.tobytes()
    assert loaded.features.dtype == np.float32
    assert loaded.frame == saved.frame
    assert loaded.model == saved.model
    assert loaded.state is None
    assert loaded.timings == Timings()


def test_the_file_gets_exactly_the_name_that_was_given(tmp_path):
    embedding().save(tmp_path / "image.embedding")
    assert [path.name for path in tmp_path.iterdir()] == ["image.embedding"]
    Embedding.load(tmp_path / "image.embedding")


def test_an_embedding_of_another_model_is_refused():
    embedding().require(MODEL)
    with pytest.raises(EmbeddingError, match=r"abababababab.*000000000000.*Embed the image"):
        embedding().require("0" * 64)


@pytest.mark.parametrize("keep", [0, 10, 3000, -1, -200])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "image.npz"
    embedding().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EmbeddingError, match=r"image\.npz"):
        Embedding.load(path)


def test_an_altered_bit_is_found(tmp_path):
    path = tmp_path / "image.npz"
    embedding().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=r"image\.npz"):
        Embedding.load(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(EmbeddingError, match="No such file"):
        Embedding.load(path)
    np.savez(path, features=np.zeros((256, 4, 4), np.float32))
    with pytest.raises(EmbeddingError, match="format"):
        Embedding.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(EmbeddingError, match="not an embedding"):
        Embedding.load(path)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_code_in_a_file_is_refused_and_not_executed(tmp_path):
    path, trace = tmp_path / "image.npz", tmp_path / "trace"
    features = np.array([Payload(trace)], dtype=object)
    with path.open("wb") as file:
        np.savez(file, format=1, features=features, frame=[48, 60, 64], model=MODEL)
    with pytest.raises(EmbeddingError, match="allow_pickle"):
        Embedding.load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": np.int64(3)},
        {"features": np.zeros((256, 4, 4))},
        {"features": np.zeros((256, 4, 5), np.float32)},
        {"features": np.zeros((255, 4, 4), np.float32)},
        {"frame": np.array([48, 60])},
        {"frame": np.array([48, 60, 64, 0, 0, 61, 48])},
        {"frame": np.array([48, 60, 64, 5, 5, 5, 5])},
        {"frame": np.array([0, 60, 64])},
        {"frame": np.array([48.0, 60.0, 64.0])},
        {"model": np.array(7)},
    ],
)
def test_entries_that_contradict_each_other_are_refused(tmp_path, wrong):
    entries = {
        "format": np.int64(1),
        "features": np.zeros((256, 4, 4), np.float32),
        "frame": np.array([48, 60, 64]),
        "model": np.array(MODEL),
    }
    np.savez(tmp_path / "right.npz", **entries)
    Embedding.load(tmp_path / "right.npz")
    np.savez(tmp_path / "wrong.npz", **(entries | wrong))
    with pytest.raises(EmbeddingError, match=r"wrong\.npz"):
        Embedding.load(tmp_path / "wrong.npz")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        embedding().save(tmp_path / "file" / "image.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_embedding_shows_its_size_and_model_and_no_arrays():
    whole, part = embedding(), embedding(Frame((48, 60), 64, (1, 2, 30, 40)))
    assert repr(whole) == "<Embedding: 48 x 60 pixels, encoder abababababab>"
    assert "48 x 60 pixels, crop (1, 2, 30, 40)" in repr(part)
