"""Engines on disk: found by what they are, refused in words, never read unless they are ours."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from fastseg import artifacts
from fastseg.artifacts import manifest
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_cache import (
    ENGINES,
    Comparison,
    EngineCache,
    card_of,
    engines_in,
    find_engine,
    write_engine,
)
from fastseg.backends.tensorrt.engine_key import EngineKey, Gpu, key_of
from fastseg.backends.tensorrt.library import TENSORRT, TENSORRT_RTX
from fastseg.errors import EngineError
from fastseg.testing import tiny_unet_folder

ADA = Gpu("Ada", (8, 9), "580.95")
HOPPER = Gpu("Hopper", (9, 0), "580.95")
CONTENT = b"an engine, as far as anybody can tell"
UNTESTED = Comparison("not compared: no device")


@pytest.fixture
def folder(tmp_path) -> artifacts.ModelFolder:
    return artifacts.read(tiny_unet_folder(tmp_path / "model"))


@pytest.fixture
def half(folder) -> manifest.GraphFile:
    """The folder's graph, as if it were in half precision."""
    return replace(folder.manifest.graphs["network"], precision="fp16")


@pytest.fixture(autouse=True)
def version(monkeypatch) -> None:
    """A runtime that is not here."""
    monkeypatch.setattr(tensorrt_library, "version", lambda flavour: "1.7")


@pytest.fixture
def cache(tmp_path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def portable(stored) -> EngineKey:
    return key_of(stored, TENSORRT_RTX, "1.7", targets=("portable",), gpu=None)


def put_inside(folder, key, comparison=UNTESTED, content=CONTENT):
    card = card_of(key, content, comparison)
    return write_engine(folder.path / ENGINES, content, card)


# The key.


def test_a_key_tells_every_difference_in_words(half):
    key = portable(half)
    assert key.differences(key.for_gpu(ADA)) == []
    wanted = replace(
        key,
        graph_sha256="f" * 64,
        precision="fp32",
        runtime="tensorrt",
        runtime_version="10.3",
        profiles=(),
        recipe=0,
        gpu=ADA,
    )
    said = " ".join(key.differences(wanted))
    for part in ("sha256", "fp16, not fp32", "tensorrt-rtx, not tensorrt", "1.7, not 10.3"):
        assert part in said
    assert "sizes" in said
    assert "recipe" in said


@pytest.mark.parametrize(
    ("targets", "gpu", "fits"),
    [
        (("portable",), ADA, True),
        (("portable",), HOPPER, True),
        (("portable",), replace(ADA, compute_capability=(7, 5)), False),
        (("sm86", "sm89"), ADA, True),
        (("sm86",), ADA, False),
        (("sm86", "sm89"), HOPPER, False),
    ],
)
def test_an_engine_built_ahead_fits_the_gpus_that_it_names(half, targets, gpu, fits):
    key = key_of(half, TENSORRT_RTX, "1.7", targets=targets, gpu=None)
    differences = key.differences(key.for_gpu(gpu))
    assert (differences == []) == fits
    assert all(f"built for {', '.join(targets)}" in one for one in differences)


@pytest.mark.parametrize(
    "other", [HOPPER, replace(ADA, driver="590.1"), replace(ADA, name="Ada Max")]
)
def test_an_engine_of_one_gpu_fits_no_other_gpu_or_driver(half, other):
    key = key_of(half, TENSORRT, "10.3", targets=(), gpu=ADA)
    assert key.differences(key) == []
    (reason,) = key.differences(key.for_gpu(other))
    assert str(ADA) in reason
    assert str(other) in reason


def test_keys_that_differ_have_names_that_differ(half):
    key = portable(half)
    others = [
        replace(key, precision="fp32"),
        replace(key, targets=("sm86",)),
        replace(key, runtime_version="1.8"),
        key.for_gpu(ADA),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 5
    assert portable(half).digest == key.digest


# Files.


def test_an_engine_is_read_as_it_was_written(folder, half):
    put_inside(folder, portable(half), Comparison("passed", ADA, {"rows": [1]}))
    (engine,), refused = engines_in(folder.path / ENGINES, "network")
    assert engine.read() == CONTENT
    assert engine.card.key == portable(half)
    assert engine.card.comparison == Comparison("passed", ADA, {"rows": [1]})
    assert refused == []


@pytest.mark.parametrize("keep", [0, 5, -1])
def test_a_truncated_engine_is_never_read(folder, half, keep):
    engine = put_inside(folder, portable(half))
    engine.path.write_bytes(CONTENT[:keep])
    with pytest.raises(EngineError, match=r"truncated or altered.*fastseg build"):
        engine.read()


def test_an_altered_engine_is_never_read(folder, half):
    engine = put_inside(folder, portable(half))
    engine.path.write_bytes(CONTENT[::-1])
    with pytest.raises(EngineError, match=r"altered, or fastseg did not write it"):
        engine.read()


def test_an_engine_that_is_gone_or_a_link_is_never_read(folder, half, tmp_path):
    engine = put_inside(folder, portable(half))
    engine.path.rename(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="missing or a link"):
        engine.read()
    engine.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="missing or a link"):
        engine.read()


def test_a_file_that_we_did_not_write_is_refused_by_name(folder, half, cache):
    place = folder.path / ENGINES
    place.mkdir()
    (place / "network.engine").write_bytes(b"ftrt" + CONTENT)
    found, (reason,) = engines_in(place, "network")
    assert found == []
    assert "network.engine is no engine that fastseg wrote: network.json is not beside" in reason
    with pytest.raises(EngineError, match=r"network\.engine is no engine that fastseg wrote"):
        find_engine(folder, half, TENSORRT_RTX, ADA, cache)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"schema": 2}',
        '{"schema": 1, "key": {}, "sha256": "", "bytes": 0, "comparison": {}}',
        '{"schema": 1, "key": {"gpu": 7, "profiles": 7}}',
        "x" * 2**21,
    ],
)
def test_a_sidecar_that_is_not_ours_is_refused_whatever_it_holds(folder, half, text):
    engine = put_inside(folder, portable(half))
    engine.path.with_suffix(".json").write_text(text)
    found, (reason,) = engines_in(folder.path / ENGINES, "network")
    assert found == []
    assert "cannot be read" in reason


# The cache.


def test_an_engine_is_found_again_under_its_key_alone(half, cache):
    key = portable(half)
    assert cache.find(key) is None
    cache.put(CONTENT, card_of(key, CONTENT, UNTESTED))
    found = cache.find(key)
    assert found is not None
    assert found.read() == CONTENT
    assert cache.find(replace(key, runtime_version="1.8")) is None


@pytest.mark.parametrize("suffix", [".engine", ".json"])
def test_what_is_damaged_in_the_cache_is_not_found_and_goes(half, cache, suffix):
    key = portable(half)
    cache.put(CONTENT, card_of(key, CONTENT, UNTESTED))
    path = Path(cache.folder) / f"{key.digest}{suffix}"
    path.write_bytes(b"{}")
    assert cache.find(key) is None
    assert not path.exists()
    cache.put(CONTENT, card_of(key, CONTENT, UNTESTED))
    assert cache.find(key) is not None


def test_a_card_of_another_key_is_not_believed(half, cache):
    key = portable(half)
    cache.put(CONTENT, card_of(key, CONTENT, UNTESTED))
    path = Path(cache.folder) / f"{key.digest}.json"
    document = json.loads(path.read_text())
    document["key"]["precision"] = "fp32"
    path.write_text(json.dumps(document))
    assert cache.find(key) is None


# Which engine runs.


def test_an_engine_below_fp32_runs_only_where_it_was_compared(folder, half, cache):
    engine = put_inside(folder, portable(half))
    with pytest.raises(EngineError, match=r"never compared with FP32.*no device.*fastseg build"):
        find_engine(folder, half, TENSORRT_RTX, ADA, cache)
    found = find_engine(folder, half, TENSORRT_RTX, ADA, cache, allow_uncompared=True)
    assert found.read() == CONTENT
    cache.accept(engine.card, Comparison("passed", ADA, {}))
    assert find_engine(folder, half, TENSORRT_RTX, ADA, cache).read() == CONTENT
    with pytest.raises(EngineError, match="never compared"):
        find_engine(folder, half, TENSORRT_RTX, HOPPER, cache)


def test_a_comparison_that_did_not_pass_accepts_nothing(folder, half, cache):
    engine = put_inside(folder, portable(half))
    cache.accept(engine.card, Comparison("failed", ADA, {}))
    with pytest.raises(EngineError, match="never compared"):
        find_engine(folder, half, TENSORRT_RTX, ADA, cache)


def test_an_acceptance_holds_for_the_bytes_that_were_compared(folder, half, cache):
    engine = put_inside(folder, portable(half))
    cache.accept(engine.card, Comparison("passed", ADA, {}))
    put_inside(folder, portable(half), content=CONTENT + b"!")
    with pytest.raises(EngineError, match="never compared"):
        find_engine(folder, half, TENSORRT_RTX, ADA, cache)


def test_fp32_needs_no_comparison(folder, cache):
    stored = folder.manifest.graphs["network"]
    put_inside(folder, portable(stored))
    assert find_engine(folder, stored, TENSORRT_RTX, ADA, cache).read() == CONTENT


def test_an_engine_of_this_architecture_beats_a_portable_one(folder, cache):
    stored = folder.manifest.graphs["network"]
    own = key_of(stored, TENSORRT_RTX, "1.7", targets=("sm89",), gpu=None)
    put_inside(folder, portable(stored))
    cache.put(b"own", card_of(own, b"own", UNTESTED))
    assert find_engine(folder, stored, TENSORRT_RTX, ADA, cache).read() == b"own"


def test_without_an_engine_the_command_that_builds_it_is_given(folder, half, cache):
    with pytest.raises(EngineError) as caught:
        find_engine(folder, half, TENSORRT, HOPPER, cache)
    for part in ("There is none at all", "--backend tensorrt --precision fp16", str(HOPPER)):
        assert part in str(caught.value)


def test_each_engine_that_does_not_fit_is_explained(folder, half, cache, monkeypatch):
    put_inside(folder, key_of(half, TENSORRT_RTX, "1.7", targets=("sm86",), gpu=None))
    put_inside(folder, replace(portable(half), graph_sha256="0" * 64))
    monkeypatch.setattr(tensorrt_library, "version", lambda flavour: "1.8")
    with pytest.raises(EngineError) as caught:
        find_engine(folder, half, TENSORRT_RTX, ADA, cache)
    text = str(caught.value)
    assert "built for sm86, and this is Ada (sm89, driver 580.95)" in text
    assert f"sha256 {'0' * 64}, not {half.sha256}" in text
    assert text.count("was built by tensorrt-rtx 1.7, not 1.8") == 2


def test_without_a_home_nothing_is_kept_and_nothing_breaks(half, monkeypatch):
    monkeypatch.setattr("fastseg.backends.tensorrt.engine_cache.user_cache_folder", lambda: None)
    cache, key = EngineCache(), portable(half)
    card = card_of(key, CONTENT, UNTESTED)
    cache.put(CONTENT, card)
    cache.accept(card, Comparison("passed", ADA, {}))
    assert cache.find(key) is None
    assert cache.all("network") == []
    assert not cache.accepts(card, ADA)


def test_the_hash_on_the_card_is_that_of_the_file(folder, half):
    engine = put_inside(folder, portable(half))
    assert engine.card.sha256 == sha256(engine.path.read_bytes()).hexdigest()
    assert engine.card.bytes == engine.path.stat().st_size
