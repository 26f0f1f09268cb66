"""LoRA pairs in every layout are merged to the weights that the unmerged layers compute with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch import Tensor

from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.completion import with_decoder, with_lora
from fastseg.export.checkpoints.identify import read_weights

WIDTH, RANK, DEPTH = 12, 3, 2
FINAL = "mask_decoder.transformer.final_attn_token_to_image"


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def base() -> dict[str, Tensor]:
    """Names and proportions of SAM's weights, in small."""
    found = {"image_encoder.patch_embed.proj.weight": numbers(WIDTH, 3, 2, 2)}
    for block in range(DEPTH):
        path = f"image_encoder.blocks.{block}"
        found[f"{path}.attn.qkv.weight"] = numbers(3 * WIDTH, WIDTH, seed=block)
        found[f"{path}.attn.qkv.bias"] = numbers(3 * WIDTH, seed=block)
        found[f"{path}.mlp.lin1.weight"] = numbers(4 * WIDTH, WIDTH, seed=block + 10)
        found[f"{path}.mlp.lin2.weight"] = numbers(WIDTH, 4 * WIDTH, seed=block + 20)
    for layer in range(2):
        for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            for part in "qv":
                name = f"mask_decoder.transformer.layers.{layer}.{attention}.{part}_proj.weight"
                found[name] = numbers(6, WIDTH, seed=layer)
    for part in "qv":
        found[f"{FINAL}.{part}_proj.weight"] = numbers(6, WIDTH, seed=30)
    found["mask_decoder.iou_token.weight"] = numbers(1, WIDTH)
    found["prompt_encoder.no_mask_embed.weight"] = numbers(1, WIDTH)
    return found


def pair(inputs: int, outputs: int, seed: int, rank: int = RANK) -> tuple[Tensor, Tensor]:
    return numbers(rank, inputs, seed=seed), numbers(outputs, rank, seed=seed + 100)


def saved(path: Path, weights: Any) -> Path:
    torch.save(weights, path)
    return path


def unmerged(weight: Tensor, changes: dict[str, tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Compute a layer with its pairs beside it, as in training: the slow reference."""
    out = x @ weight.T
    for rows, (down, up) in changes.items():
        begin = {"": 0, "q": 0, "k": len(up), "v": len(weight) - len(up)}[rows]
        out[:, begin : begin + len(up)] += (x @ down.T) @ up.T
    return out


def assert_equal(weight: Tensor, original: Tensor, changes: Any) -> None:
    x = numbers(5, original.shape[1], seed=99)
    expected = unmerged(original, changes, x)
    found = x @ weight.T
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-6


def test_numbered_pairs_are_of_queries_and_values_block_by_block(tmp_path):
    file, wanted = {}, {}
    for number in range(2 * DEPTH):
        down, up = pair(WIDTH, WIDTH, number)
        file[f"w_a_{number:03d}"], file[f"w_b_{number:03d}"] = down, up
        wanted.setdefault(number // 2, {})["q" if number % 2 == 0 else "v"] = (down, up)
    file["fc_12in_3out.weight"] = numbers(3, 12)
    merged = with_lora(base(), saved(tmp_path / "lora.pt", file))
    for block, changes in wanted.items():
        name = f"image_encoder.blocks.{block}.attn.qkv.weight"
        assert_equal(merged[name], base()[name], changes)
    assert set(merged) == set(base())


def test_numbered_pairs_of_some_blocks_only_are_refused(tmp_path):
    down, up = pair(WIDTH, WIDTH, 0)
    file = {"w_a_000": down, "w_b_000": up, "w_a_001": down, "w_b_001": up}
    with pytest.raises(CheckpointError, match="2 numbered pairs, and the network has 2 blocks"):
        with_lora(base(), saved(tmp_path / "lora.pt", file))


def test_pairs_of_the_decoder_by_number_are_merged(tmp_path):
    down, up = pair(WIDTH, 6, 7)
    file = {"sa_a_003": down, "sa_b_003": up, "fati_qa": down, "fati_qb": up}
    file["prompt_encoder.no_mask_embed.weight"] = numbers(1, WIDTH, seed=5)
    merged = with_lora(base(), saved(tmp_path / "lora.pt", file))
    for name in (
        "mask_decoder.transformer.layers.1.self_attn.v_proj.weight",
        f"{FINAL}.q_proj.weight",
    ):
        assert_equal(merged[name], base()[name], {"": (down, up)})
    replaced = merged["prompt_encoder.no_mask_embed.weight"]
    assert torch.equal(replaced, numbers(1, WIDTH, seed=5))


@pytest.mark.parametrize(
    ("inner", "down_name", "up_name", "parts"),
    [
        ("qkv", "linear_a_{}.weight", "linear_b_{}.weight", "qv"),
        ("qkv_proj", "w_a_linear_{}.weight", "w_b_linear_{}.weight", "qkv"),
    ],
)
def test_a_whole_network_with_pairs_inside_is_unwrapped_and_merged(
    inner, down_name, up_name, parts, tmp_path
):
    file, changes = base(), {}
    path = "image_encoder.blocks.1.attn.qkv"
    for name in ("weight", "bias"):
        file[f"{path}.{inner}.{name}"] = file.pop(f"{path}.{name}")
    for seed, part in enumerate(parts):
        changes[part] = pair(WIDTH, WIDTH, seed)
        file[f"{path}.{down_name.format(part)}"], file[f"{path}.{up_name.format(part)}"] = changes[
            part
        ]
    merged = read_weights(saved(tmp_path / "whole.pt", {"model": file}))
    assert set(merged) == set(base())
    assert_equal(merged[f"{path}.weight"], base()[f"{path}.weight"], changes)
    assert torch.equal(merged[f"{path}.bias"], base()[f"{path}.bias"])


def test_pairs_of_decoder_projections_and_of_feed_forward_layers_are_merged(tmp_path):
    file = base()
    projection = "mask_decoder.transformer.layers.0.self_attn.q_proj"
    mlp = "image_encoder.blocks.0.mlp"
    file[f"{projection}.proj.weight"] = file.pop(f"{projection}.weight")
    file[f"{mlp}.mlp_layer.lin2.weight"] = file.pop(f"{mlp}.lin2.weight")
    of_projection, of_mlp = pair(WIDTH, 6, 1), pair(4 * WIDTH, WIDTH, 2)
    file[f"{projection}.w_a.weight"], file[f"{projection}.w_b.weight"] = of_projection
    file[f"{mlp}.w_a_linear_2.weight"], file[f"{mlp}.w_b_linear_2.weight"] = of_mlp
    merged = read_weights(saved(tmp_path / "whole.pt", file))
    assert_equal(
        merged[f"{projection}.weight"], base()[f"{projection}.weight"], {"": of_projection}
    )
    assert_equal(merged[f"{mlp}.lin2.weight"], base()[f"{mlp}.lin2.weight"], {"": of_mlp})


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 3), (True, 6 / 3**0.5)])
def test_a_folder_of_peft_is_merged_with_its_scale(rslora, scale, tmp_path):
    from safetensors.torch import save_file

    name = "image_encoder.blocks.0.attn.qkv"
    down, up = pair(WIDTH, 3 * WIDTH, 4)
    file = {
        f"base_model.model.{name}.lora_A.weight": down,
        f"base_model.model.{name}.lora_B.weight": up,
    }
    save_file(file, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        with_lora(base(), tmp_path)
    settings = {"r": 3, "lora_alpha": 6, "use_rslora": rslora}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    merged = with_lora(base(), tmp_path)
    assert_equal(merged[f"{name}.weight"], base()[f"{name}.weight"], {"": (down, scale * up)})


NAME = "image_encoder.blocks.0.attn.qkv"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({f"{NAME}.linear_a_q.weight": numbers(3, WIDTH)}, "only one side"),
        (
            {
                f"{NAME}.linear_a_q.weight": numbers(3, WIDTH),
                f"{NAME}.linear_b_q.weight": numbers(WIDTH, 4),
            },
            "different ranks",
        ),
        (
            {
                f"{NAME}.linear_a_q.weight": numbers(3, 2 * WIDTH),
                f"{NAME}.linear_b_q.weight": numbers(2 * WIDTH, 3),
            },
            "pairs are of another network",
        ),
        (
            {
                "neck.0.q_proj.w_a.weight": numbers(3, WIDTH),
                "neck.0.q_proj.w_b.weight": numbers(WIDTH, 3),
            },
            "does not have",
        ),
        ({"decoder.weight": numbers(2, 2)}, "no LoRA pairs"),
        ({f"{NAME}.lora_A": numbers(3, WIDTH)}, "merged into the weights already"),
        ({f"{NAME}.linear_a_q.weight": torch.full((3, WIDTH), float("nan"))}, "not finite"),
        (
            {
                f"{NAME}.linear_a_q.weight": numbers(3, WIDTH),
                f"{NAME}.linear_b_q.weight": numbers(WIDTH, 3),
                "image_encoder.blocks.0.MLP_Adapter.D_fc1.weight": numbers(3, 3),
            },
            "holds adapters",
        ),
    ],
)
def test_pairs_that_do_not_fit_are_refused(file, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        with_lora(base(), saved(tmp_path / "lora.pt", file))


def test_pairs_without_their_network_name_the_way(tmp_path):
    down, up = pair(WIDTH, WIDTH, 0)
    path = saved(tmp_path / "lora.pt", {"w_a_000": down, "w_b_000": up})
    with pytest.raises(CheckpointError, match=r"--lora lora\.pt"):
        read_weights(path)


def decoder(seed: int) -> dict[str, Tensor]:
    return {
        name: numbers(*each.shape, seed=seed)
        for name, each in base().items()
        if name.startswith("mask_decoder.")
    }


@pytest.mark.parametrize("form", ["prefixed", "bare", "whole"])
def test_a_decoder_is_put_over_its_base(form, tmp_path):
    tuned = decoder(50)
    file = {
        "prefixed": tuned,
        "bare": {name.removeprefix("mask_decoder."): each for name, each in tuned.items()},
        "whole": {**base(), **tuned},
    }[form]
    merged = with_decoder(base(), saved(tmp_path / "decoder.pt", file))
    assert set(merged) == set(base())
    for name, each in merged.items():
        assert torch.equal(each, tuned.get(name, base()[name]))


def test_a_decoder_over_a_network_that_has_none_is_refused(tmp_path):
    file = saved(tmp_path / "decoder.pt", {"mask_decoder.iou_token.weight": numbers(1, WIDTH)})
    with pytest.raises(CheckpointError, match="has no mask decoder of its own"):
        with_decoder({"feature_extractor.conv1.weight": numbers(1, WIDTH)}, file)


def test_a_decoder_of_another_base_is_refused(tmp_path):
    short = decoder(1)
    short.pop("mask_decoder.iou_token.weight")
    with pytest.raises(CheckpointError, match=r"lacks mask_decoder\.iou_token"):
        with_decoder(base(), saved(tmp_path / "short.pt", short))
    other = {**decoder(1), "mask_decoder.hf_token.weight": numbers(1, WIDTH)}
    with pytest.raises(CheckpointError, match="hf_token"):
        with_decoder(base(), saved(tmp_path / "other.pt", other))
    whole = {**base(), **decoder(1), f"{NAME}.weight": numbers(3 * WIDTH, WIDTH, seed=77)}
    with pytest.raises(CheckpointError, match="image encoder differs"):
        with_decoder(base(), saved(tmp_path / "whole.pt", whole))
