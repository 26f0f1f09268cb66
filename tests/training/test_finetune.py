"""Fine-tuning: the pairs, what is trained and saved, seeds, resuming, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("safetensors", reason="training needs safetensors")

from safetensors.torch import save_file

from fastseg import artifacts
from fastseg.artifacts import registry, safetensors
from fastseg.artifacts.rules import Rules
from fastseg.errors import (
    BackendUnavailableError,
    CheckpointError,
    ImageError,
    MaskError,
    ModelError,
    ModelFolderError,
    OutputError,
    PromptError,
)
from fastseg.evaluation.dataset import read_dataset
from fastseg.export.checkpoints.completion import PROMPT
from fastseg.export.checkpoints.identify import identify
from fastseg.export.promptable import export_checkpoint
from tests.helpers import tiny_vit_sam
from training.finetune import __main__ as command
from training.finetune import experiment, size_curve
from training.finetune.finetuning import FineTuning, check_places, tuned_modules
from training.finetune.losses import hard_scores, mask_losses, prompt_loss
from training.finetune.pairs import Pair, read_pairs, split, subset
from training.finetune.settings import Settings
from training.finetune.size_curve import Run
from training.finetune.squares import make_square, training_prompts, validation_prompts
from training.finetune.start import read_start
from training.finetune.trainer import Trainer
from training.finetune.tuned_network import TunedNetwork

SIDE = 96
QUICK = Settings(epochs=3, rate=3e-3, validation=0.25)


def disc(x: float, y: float, reach: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 < reach**2


def drawn_pair(number: int, group: str | None = None) -> Pair:
    random = np.random.default_rng(number)
    mask = disc(*random.uniform(30, 66, 2), random.uniform(12, 24))
    grey = random.integers(0, 40, (SIDE, SIDE)) + 170 * mask
    image = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    return Pair(f"image{number}", group or f"patient{number}", image, mask[None])


def save_pairs(folder: Path, count: int) -> Path:
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    for number in range(count):
        pair = drawn_pair(number)
        Image.fromarray(pair.image).save(folder / "images" / f"p{number % 3}-{number}.png")
        mask = Image.fromarray(pair.masks[0].astype(np.uint8) * 255)
        mask.save(folder / "masks" / f"p{number % 3}-{number}_disc.png")
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch's threads from waiting for cores that other work has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    tiny_vit_sam.make_known(monkeypatch)
    return tiny_vit_sam.save_checkpoint(tmp_path / "tiny.pth")


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [drawn_pair(number) for number in range(4)]


def trainer(base: Path, settings: Settings, pairs: list[Pair], state: Path) -> Trainer:
    start = read_start(str(base))
    if settings.method == "adapter":
        start = start.adapted(settings.seed)
    network = TunedNetwork(
        start.modules(), settings, start.kind.published_name, torch.device("cpu")
    )
    return Trainer(network, start.preparation, split(pairs, settings), state, start.source)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "all"}, "method must be one of"),
        ({"prompt": "text"}, "prompt must be one of"),
        ({"method": "adapter", "prompt": "box"}, "takes no prompt"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rate": float("nan")}, "rate"),
        ({"validation": 1.0}, "validation"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong, said):
    with pytest.raises(PromptError, match=said):
        Settings(**wrong)


def test_patients_stay_on_one_side_of_the_split():
    many = [drawn_pair(number, f"patient{number % 4}") for number in range(12)]
    parts = split(many, Settings(validation=0.3))
    sides = [{pair.group for pair in part} for part in (parts.training, parts.validation)]
    assert not sides[0] & sides[1]
    assert (len(parts.training), len(parts.validation)) == (6, 6)
    with pytest.raises(ImageError, match="1 patients are too few"):
        split([drawn_pair(number, "one") for number in range(5)], Settings())


def test_fewer_pairs_are_among_more():
    many = [drawn_pair(number, f"patient{number % 5}") for number in range(10)]
    small, large = ([one.name for one in subset(many, count, 3)] for count in (4, 8))
    assert large[:4] == small
    assert small != [one.name for one in subset(many, 4, 4)]
    with pytest.raises(ImageError, match="11 pairs were asked for, and there are 10"):
        subset(many, 11, 0)


def test_pairs_are_read_with_their_patients_and_what_is_wrong_is_named(tmp_path):
    folder = save_pairs(tmp_path / "data", 4)
    Image.new("L", (SIDE, SIDE)).save(folder / "images" / "lonely.png")
    found, faults = read_pairs(read_dataset(folder), Settings(), patient=r"^(p\d)-")
    assert [pair.group for pair in found] == ["p0", "p0", "p1", "p2"]
    assert len(faults) == 1
    assert "lonely.png has no mask" in faults[0]
    with pytest.raises(ImageError, match="holds no patient"):
        read_pairs(read_dataset(folder), Settings(), patient="^case")
    with pytest.raises(ImageError, match="no regular expression"):
        read_pairs(read_dataset(folder), Settings(), patient="(")


def test_drive_is_read_as_its_owners_deliver_it(tmp_path):
    pair = drawn_pair(0)
    for inside, name, array in (
        ("images", "21_training.tif", pair.image),
        ("1st_manual", "21_manual1.gif", pair.masks[0].astype(np.uint8) * 255),
    ):
        (tmp_path / "training" / inside).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "training" / inside / name)
    table = tmp_path / "drive_train.csv"
    row = "training/images/21_training.tif,training/1st_manual/21_manual1.gif,DRIVE"
    table.write_text(f"image,mask,class\n{row}\n")
    (found,), faults = read_pairs(read_dataset(table), Settings(classes=("DRIVE",)))
    assert not faults
    assert np.array_equal(found.masks, pair.masks)
    assert np.array_equal(found.image, pair.image)


def test_without_a_prompt_the_objects_of_one_class_are_one_mask(tmp_path):
    folder = save_pairs(tmp_path / "data", 2)
    second = disc(10, 10, 6)
    for name in ("disc_2", "spot"):
        file = folder / "masks" / f"p0-0_{name}.png"
        Image.fromarray(second.astype(np.uint8) * 255).save(file)
    dataset = read_dataset(folder)
    with pytest.raises(MaskError, match="the classes disc, spot"):
        read_pairs(dataset, Settings())
    found, _ = read_pairs(dataset, Settings(classes=("disc",)))
    assert np.array_equal(found[0].masks[0], drawn_pair(0).masks[0] | second)
    found, _ = read_pairs(dataset, Settings(prompt="box"))
    assert [len(pair.masks) for pair in found] == [3, 1]
    with pytest.raises(MaskError, match="of the class lung"):
        read_pairs(dataset, Settings(classes=("lung",)))


def test_the_loss_is_dice_plus_entropy_on_the_image_alone():
    logits = torch.tensor([[[[0.0, 0.0], [0.0, 9.0]]]])
    targets, valid = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[1.0, 1.0], [1.0, 0]])
    # Three pixels at one half: entropy log 2 each; Dice by squares 2 * 0.5 / (3 * 0.25 + 1).
    wanted = np.log(2) + 1 - 1.0 / 1.75
    assert float(mask_losses(logits, targets, valid)) == pytest.approx(wanted, abs=1e-4)


def test_scores_learn_the_measured_iou_and_alternatives_the_best_slot():
    truth = torch.zeros(1, 4, 4)
    truth[0, :2] = 1
    valid = torch.ones(4, 4)
    logits = torch.full((1, 4, 4, 4), -20.0)
    logits[0, :, :2] = 20.0
    logits[0, 2] = -20.0  # slot 2 draws nothing; the others are perfect
    iou, dice = hard_scores(logits, truth, valid)
    assert iou.tolist() == dice.tolist() == [[1, 1, 0, 1]]
    exact = prompt_loss(logits, iou, truth, valid, alternatives=True)
    assert float(exact) == pytest.approx(0, abs=1e-4)
    wrong = prompt_loss(logits, 1 - iou, truth, valid, alternatives=False)
    assert float(wrong) == pytest.approx(1, abs=1e-4)


def test_targets_lie_where_inference_draws_them():
    pair = drawn_pair(0)
    wide = replace(pair, image=pair.image[:48], masks=pair.masks[:, :48])
    square = make_square(wide, tiny_vit_sam.preparations()["tiny"].preprocessing)
    assert square.targets.shape == (1, 32, 32)
    assert square.valid[:16].all()
    assert not square.valid[16:].any()
    share = float(square.targets.sum() / square.valid.sum())
    assert share == pytest.approx(wide.masks.mean(), abs=0.01)


@pytest.mark.parametrize(("prompt", "length"), [("point", 2), ("box", 2)])
def test_prompts_of_training_vary_and_those_of_validation_do_not(prompt, length):
    pair, place = drawn_pair(0), tiny_vit_sam.preparations()["tiny"]
    first, again, other = (
        training_prompts(pair, [0], prompt, place, (0, epoch)).coords for epoch in (0, 0, 1)
    )
    assert first.shape == (1, length, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fixed = validation_prompts(pair, [0], prompt, place)
    assert torch.equal(fixed.coords, validation_prompts(pair, [0], prompt, place).coords)
    rows, columns = np.nonzero(pair.masks[0])
    scale = 128 / SIDE
    if prompt == "box":
        corners = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]]) * scale
        assert np.allclose(fixed.coords[0], corners)
        assert (first[0, 0] <= fixed.coords[0, 0]).all()
        assert (first[0, 1] >= fixed.coords[0, 1]).all()
    else:
        x, y = (np.floor(first[0, 0].numpy() / scale + 0.5)).astype(int)
        assert pair.masks[0, y, x]


@pytest.mark.parametrize("method", ["decoder", "lora", "adapter"])
def test_a_method_trains_its_part_and_the_file_gives_the_trained_network(
    method, base, pairs, tmp_path
):
    settings = replace(QUICK, method=method)
    run = trainer(base, settings, pairs, tmp_path / "state.pt")
    before = run.network.modules.image_encoder.patch_embed.proj.weight.clone()
    run.run(lambda line: None)
    assert min(epoch.validation for epoch in run.curve) < 0.95 * run.curve[0].training
    assert torch.equal(before, run.network.modules.image_encoder.patch_embed.proj.weight)
    file = tmp_path / "tuned.pt"
    torch.save(run.network.saved(), file)
    start = read_start(str(base))
    if method == "adapter":
        start = start.adapted(settings.seed)
    merged = tuned_modules(start, file, settings)
    pixels = make_square(pairs[0], start.preparation.preprocessing).pixels
    with torch.no_grad():
        expected = run.network.decode(run.network.encode(pixels), None)[0]
        encoded = merged.encode(pixels)["embedding"]
        positions, sparse = merged.prompt_encoder.dense_positions(), torch.zeros(1, 0, 256)
        dense = merged.prompt_encoder.embed_mask()
        found = merged.mask_decoder(encoded, positions, sparse, dense)[0]
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def tuned_file(path: Path, run: Trainer, prompt: str | None) -> Path:
    """Save what a run trained, with the prompt of its tuning in the header if there is one."""
    save_file(run.network.saved(), path, None if prompt is None else {PROMPT: prompt})
    return path


@pytest.mark.parametrize(
    ("prompt", "taken"), [("none", False), ("box", True), ("point", True), (None, True)]
)
def test_an_export_takes_prompts_as_the_tuning_did(prompt, taken, base, pairs, tmp_path):
    run = trainer(base, QUICK, pairs, tmp_path / "state.pt")
    found = identify(base, decoder=tuned_file(tmp_path / "tuned.safetensors", run, prompt))
    assert found.as_dict()["prompt_free"] is not taken
    assert found.parts["decoder"].get("prompt") == prompt
    rules = (found.require_preparation().rules or Rules()).prompts
    assert rules.points is rules.boxes is rules.masks is rules.alternatives is taken
    points = torch.full((2, 3, 2), 9.0), torch.ones(2, 3)
    sparse, _ = found.modules().prompt_encoder(*points)
    assert sparse.shape == (2, 3 if taken else 0, 256)


def test_parts_of_tunings_with_and_without_a_prompt_do_not_go_together(base, pairs, tmp_path):
    decoder = tuned_file(
        tmp_path / "decoder.safetensors", trainer(base, QUICK, pairs, tmp_path / "a.pt"), "none"
    )
    low_rank = trainer(base, replace(QUICK, method="lora"), pairs, tmp_path / "b.pt")
    lora = tuned_file(tmp_path / "lora.safetensors", low_rank, "box")
    with pytest.raises(CheckpointError, match=r"lora\.safetensors \(prompt: box\), decoder\.saf"):
        identify(base, decoder=decoder, lora=lora)


def test_an_adapter_begins_as_its_base(base, pairs):
    start = read_start(str(base))
    plain, adapted = start.modules(), start.adapted(0).modules()
    pixels = make_square(pairs[0], start.preparation.preprocessing).pixels
    with torch.no_grad():
        found, expected = (one.encode(pixels)["embedding"] for one in (adapted, plain))
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(
        adapted.prompt_encoder.dense_positions(), plain.prompt_encoder.dense_positions()
    )


@pytest.mark.parametrize("prompt", ["box", "point"])
def test_a_prompted_network_learns_too(prompt, base, pairs, tmp_path):
    run = trainer(base, replace(QUICK, prompt=prompt), pairs, tmp_path / "state.pt")
    run.run(lambda line: None)
    assert min(epoch.validation for epoch in run.curve) < 0.95 * run.curve[0].training
    assert "prompt_encoder.no_mask_embed.weight" not in run.network.saved()


def test_a_seed_gives_the_same_bits_and_a_resumed_run_too(base, pairs, tmp_path):
    whole = trainer(base, replace(QUICK, method="lora"), pairs, tmp_path / "whole.pt")
    whole.run(lambda line: None)
    part = trainer(base, replace(QUICK, method="lora"), pairs, tmp_path / "part.pt")

    def stop(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt):
        part.run(stop)
    part.save()
    again = trainer(base, replace(QUICK, method="lora"), pairs, tmp_path / "part.pt")
    again.resume()
    assert len(again.curve) == 1
    again.run(lambda line: None)
    assert again.curve == whole.curve
    wanted = whole.network.saved()
    assert all(torch.equal(each, wanted[name]) for name, each in again.network.saved().items())
    other = trainer(base, replace(QUICK, method="lora", seed=1), pairs, tmp_path / "part.pt")
    part.base = {"sha256": "of another file"}
    with pytest.raises(OutputError, match="another base"):
        part.resume()
    with pytest.raises(OutputError, match="another base, other settings or other pairs"):
        other.resume()


def test_training_stops_when_it_no_longer_gets_better(base, pairs, tmp_path):
    settings = replace(QUICK, epochs=30, patience=2, rate=1e-9)
    run = trainer(base, settings, pairs, tmp_path / "state.pt")
    run._epoch = lambda number: size_of(number)
    run.run(lambda line: None)
    assert (len(run.curve), run.best_epoch) == (6, 3)


def size_of(number: int):
    from training.finetune.trainer import Epoch

    return Epoch(1.0, abs(number - 3.0), 0.5)


def test_losses_that_are_not_finite_end_the_training(base, pairs, tmp_path):
    run = trainer(base, replace(QUICK, rate=1e30), pairs, tmp_path / "state.pt")
    with pytest.raises(ModelError, match="are not finite"):
        run.run(lambda line: None)


def test_sam_nano_starts_from_the_weights_of_the_clone_and_has_no_blocks_to_adapt():
    start = read_start("sam-nano")
    assert start.kind.name == "sam-nano"
    source = artifacts.read(registry.find("sam-nano")).manifest.source
    assert start.source["sha256"] == source["checkpoint_sha256"]
    with pytest.raises(ModelError, match="SAM-Adapter is for SAM ViT-B, L and H"):
        start.adapted(0)
    with pytest.raises(ModelFolderError, match="no network of SAM's shape"):
        read_start("echo-a2c")


def test_a_model_folder_gives_the_weights_of_its_checkpoint(base, tmp_path, monkeypatch):
    modules = tiny_vit_sam.build()
    files = {"encoder": modules.encoder_weights(), "decoder": modules.decoder_weights()}
    for name, weights in files.items():
        safetensors.write(tmp_path / f"{name}.safetensors", weights)
    source = {"kind": "vit_tiny", "preprocess": "tiny", "file": "tiny.pth", "sha256": "0"}
    stored = {name: SimpleNamespace(file=f"{name}.safetensors") for name in files}
    manifest = SimpleNamespace(family="sam", source=source, weights=stored, licence="MIT")
    folder = SimpleNamespace(path=tmp_path, manifest=manifest)
    monkeypatch.setattr("training.finetune.start.artifacts.read", lambda _: folder)
    start = read_start(str(tmp_path))
    assert start.licence == "MIT"
    found = start.modules().by_prefix()
    for prefix, module in modules.by_prefix().items():
        state = found[prefix].state_dict()
        assert all(torch.equal(state[name], each) for name, each in module.state_dict().items())
    source["decoder"] = {"file": "tuned.safetensors"}
    with pytest.raises(ModelFolderError, match=r"Start from the checkpoint .* tiny\.pth"):
        read_start(str(tmp_path))


def test_occupied_paths_and_missing_devices_fail_before_training(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    task = FineTuning(model="sam-nano", out=tmp_path / "taken", run=tmp_path / "run")
    with pytest.raises(OutputError, match="no model folder"):
        check_places(task)
    with pytest.raises(BackendUnavailableError, match="abacus"):
        check_places(replace(task, out=tmp_path / "new", device="abacus"))
    words = [str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")]
    assert command.main(words) == 1
    assert "is no dataset" in capsys.readouterr().err
    assert command.main([*words, "--rate", "-1"]) == 1
    assert "rate (-1) must be positive" in capsys.readouterr().err
    assert command.main([*words, "--threads", "0"]) == 1
    assert "threads must be" in capsys.readouterr().err
    assert experiment.main([*words, "--test", str(tmp_path), "--clicks", "0"]) == 1
    assert "clicks must be" in capsys.readouterr().err


def test_runs_are_summarised_by_their_number_of_pairs(tmp_path):
    pytest.importorskip("matplotlib", reason="the curve needs the extra plot")
    runs = [Run(5, 0, 0.5, 0.4, 3), Run(5, 1, 0.7, 0.5, 3), Run(10, 0, 0.8, 0.7, 3)]
    five, ten = size_curve.summarise(runs)
    assert (five.pairs, five.runs, five.mean) == (5, 2, pytest.approx(0.6))
    assert (five.sd, five.least, five.largest) == (pytest.approx(0.02**0.5), 0.5, 0.7)
    assert ten.sd is None
    size_curve.plot([five, ten], runs, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().count("<path") > 10


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """One fine-tuning by the command: from a folder of pairs to a model folder."""
    place = tmp_path_factory.mktemp("tuning")
    with pytest.MonkeyPatch.context() as patch:
        tiny_vit_sam.make_known(patch, 256)
        checkpoint = tiny_vit_sam.save_checkpoint(place / "tiny.pth", 256)
        data = save_pairs(place / "data", 6)
        words = [str(data), "--model", str(checkpoint), "--method", "lora", "--epochs", "2"]
        words += ["--rate", "3e-3", "--patient", r"p\d", "--out", str(place / "mine")]
        assert command.main(words) == 0
    return place


@pytest.mark.slow
def test_the_command_leaves_a_model_that_takes_no_prompt(tuned):
    import fastseg

    report = json.loads((tuned / "mine-run" / "report.json").read_text())
    assert len(report["epochs"]) == 2
    assert (report["pairs"], report["pairs_kept_back"]) == (4, 2)
    assert not (tuned / "mine-run" / "state.pt").exists()
    image = drawn_pair(0).image
    with fastseg.load(tuned / "mine") as model:
        masks = model.segment(image)
        assert len(masks) == 1
        with pytest.raises(PromptError, match="takes no prompt"):
            model.segment(image, points=[[5, 5]])
        source = model.manifest.source
    assert source["lora"]["file"] == "tuned.safetensors"
    assert source["lora"]["prompt"] == "none"
    assert "p0" not in json.dumps(source)


@pytest.mark.slow
def test_the_file_of_a_tuning_without_a_prompt_is_exported_again_to_the_same_model(
    tuned, tmp_path, monkeypatch
):
    import fastseg

    tiny_vit_sam.make_known(monkeypatch, 256)
    file = tuned / "mine-run" / "tuned.safetensors"
    export_checkpoint(tuned / "tiny.pth", tmp_path / "again", lora=file)
    image = drawn_pair(0).image
    with fastseg.load(tuned / "mine") as first, fastseg.load(tmp_path / "again") as second:
        expected, found = first.segment(image), second.segment(image)
        with pytest.raises(PromptError, match="takes no prompt"):
            second.segment(image, points=[[5, 5]])
    assert np.array_equal(found.array(), expected.array())
    assert np.array_equal(found.logits, expected.logits)


@pytest.mark.slow
def test_the_experiment_writes_its_table_beside_the_published_one(tuned, monkeypatch, capsys):
    tiny_vit_sam.make_known(monkeypatch, 256)
    # The export of a base is that of any checkpoint, and takes as long as the rest.
    monkeypatch.setattr(experiment, "base_folder", lambda *_: "sam-nano")
    data = str(tuned / "data")
    words = [data, "--test", data, "--model", str(tuned / "tiny.pth"), "--epochs", "1"]
    assert experiment.main([*words, "--clicks", "1", "2", "--out", str(tuned / "vessels")]) == 0
    printed = capsys.readouterr().out
    assert "| tuned (decoder), no prompt |" in printed
    assert "| published, DRIVE: tuned, no prompt | 0.7733 | 0.6304 |" in printed
    scores = json.loads((tuned / "vessels" / "experiment.json").read_text())["scores"]
    assert [one["images"] for one in scores] == [6] * 5
    assert scores[0]["dice"] > 0.5  # bright discs are what sam-nano is for


@pytest.mark.slow
def test_the_curve_repeats_no_run_and_refuses_other_settings(tuned, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the curve needs the extra plot")
    tunings = []

    def copied(pairs, task, progress):
        tunings.append((len(pairs), task.settings.seed))
        shutil.copytree(tuned / "mine", task.out)
        return SimpleNamespace(curve=(1, 2))

    monkeypatch.setattr(size_curve, "tune", copied)
    data = str(tuned / "data")
    words = [data, "--test", data, "--sizes", "3", "5", "--seeds", "0", "7"]
    words += ["--out", str(tuned / "curve")]
    assert size_curve.main(words) == 0
    assert tunings == [(3, 0), (3, 7), (5, 0), (5, 7)]
    assert "| 5 | 2 | " in capsys.readouterr().out
    assert size_curve.main(words) == 0
    assert len(tunings) == 4
    assert size_curve.main([*words, "--rate", "1e-3"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert (tuned / "curve" / "curve.svg").exists()
    rows = (tuned / "curve" / "curve.csv").read_text().splitlines()
    assert rows[0] == "pairs,seed,dice,iou,epochs"
    assert len(rows) == 5
