"""Published example frames become data for the commands that judge and measure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fastseg.cli.root import run
from fastseg.errors import ImageError
from fastseg.evaluation.dataset import ViewSettings, read_dataset
from training.echo import example_dataset


@pytest.fixture(scope="module")
def dataset(echo_examples, tmp_path_factory):
    out = tmp_path_factory.mktemp("frames")
    assert example_dataset.write_dataset(echo_examples, out) == {"a2c": 10, "a4c": 10}
    return out


def test_masks_are_the_chambers_of_the_published_network(dataset, echo_examples):
    for view, chambers in (("a2c", ["LA", "LV"]), ("a4c", ["LA", "LV", "RA", "RV"])):
        example = read_dataset(dataset / view).examples[0].load(ViewSettings())
        assert [truth.task for truth in example.truths] == chambers
        with np.load(echo_examples / f"{view.upper()}_EX01.npz") as arrays:
            final = arrays["final"].astype(bool)
            luma = arrays["image"][..., 0]
        for channel, truth in enumerate(example.truths, start=1):
            later = final[..., channel + 1 :].any(axis=-1)
            assert np.array_equal(truth.mask, final[..., channel] & ~later)
        grey = np.asarray(Image.fromarray(example.image).convert("YCbCr"))[..., 0]
        # Rounding alone, but for a few pixels at the padding whose chroma is no colour.
        assert (np.abs(grey.astype(int) - luma) > 1).mean() < 0.01


def test_a_folder_without_frames_is_refused(tmp_path, capsys):
    with pytest.raises(ImageError, match=r"holds no A2C_\*\.npz"):
        example_dataset.write_dataset(tmp_path, tmp_path / "out")
    (tmp_path / "A2C_1.npz").write_bytes(b"nothing")
    assert example_dataset.main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "is no example frame" in capsys.readouterr().err


@pytest.mark.slow
def test_single_frames_give_seven_of_the_25_measurements(dataset, tmp_path, capsys):
    images, masks = (
        sorted(map(str, dataset.glob(f"a?c/{inside}/*.png"))) for inside in ("images", "masks")
    )
    assert run(["echo", *images, "--out", str(tmp_path / "report"), "--json"]) == 0
    capsys.readouterr()
    labels = [
        word
        for value, name in enumerate(("LA", "LV", "RA", "RV"), start=1)
        for word in ("--label", f"label {value}={name}")
    ]
    assert run(["measure", *masks, "--cm-per-pixel", "0.078125", *labels, "--json"]) == 0
    reference = tmp_path / "reference.json"
    reference.write_text(capsys.readouterr().out)
    ours = f"ours={tmp_path / 'report' / 'measurements.json'}"
    words = ["evaluate", "measurements", str(reference), "--measured", ours, "--names", "study"]
    assert run([*words, "--json"]) == 1  # the others need more than one frame of a beat
    (found,) = json.loads(capsys.readouterr().out)["models"]
    atria = {f"la_{what}_{view}" for what in ("length", "area") for view in ("a2c", "a4c")}
    names = {name.removesuffix("_cm2").removesuffix("_cm") for name in found["measurements"]}
    assert names == atria | {"ra_length", "ra_area", "ra_volume_ml"}
    (fault,) = found["faults"]
    model, *named = fault.partition(": ")[0].split(", ")
    assert (model, len(named)) == ("ours", 18)
    assert found["measurements"]["la_length_a2c_cm"]["r2"] == pytest.approx(0.70, abs=0.01)
