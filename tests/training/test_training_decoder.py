"""The decoder as it is trained: the same function as the published one, drawn in places."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from fastseg.export.networks.nano_encoder import normalised
from tests.helpers.gradients import both_gradients
from training.sam_nano import depthwise, loss_sampling, losses
from training.sam_nano.batches import Questions
from training.sam_nano.network import SamNano
from training.sam_nano.training_decoder import cells, sketch, whole


def asked(*, rough: bool) -> Questions:
    """Six boxes, three on each of two windows of 128 pixels."""
    random = torch.Generator().manual_seed(3)
    corners = torch.rand(6, 2, 2, generator=random) * 128
    masks = 8 * torch.randn(6, 1, 32, 32, generator=random) if rough else None
    kinds = torch.tensor([2, 3], dtype=torch.int32).expand(6, 2)
    return Questions(corners, kinds, masks, (corners[:, :1, :1] > torch.zeros(6, 32, 32)).float())


@pytest.mark.parametrize("rough", [False, True])
def test_a_sketch_of_every_place_is_what_the_decoder_draws(rough: bool) -> None:
    network, questions = SamNano(5), asked(rough=rough)
    embedding = 0.3 * torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected, scores = network.answer(embedding, questions, (3, 5))
        exchanged, sketched_scores = network.consider(embedding, questions, (3, 5))
        drawn = whole(sketch(network.mask_decoder, exchanged, None))
    # bfloat16 keeps 8 bits.
    assert (drawn - expected).abs().max() < 0.05 * expected.abs().max()
    assert (sketched_scores - scores).abs().max() < 0.05


def test_a_sketch_teaches_the_decoder_what_its_masks_would() -> None:
    questions = asked(rough=False)
    embedding = 0.3 * torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(4))
    every = torch.arange(64).expand(6, 64)
    pulls = []
    for sketched in (False, True):
        network, felt = SamNano(5), embedding.clone().requires_grad_()
        if sketched:
            exchanged, scores = network.consider(felt, questions, (0, 0))
            logits = whole(sketch(network.mask_decoder, exchanged, every))
        else:
            logits, scores = network.answer(felt, questions, (0, 0))
        (losses.mask_losses(logits, questions.targets).mean() + scores.square().mean()).backward()
        named = dict(network.mask_decoder.named_parameters())
        pulls.append({name: p.grad for name, p in named.items() if p.grad is not None})
        pulls[-1]["embedding"] = felt.grad
    # The bias of keys among image tokens cancels in the softmax: it learns nothing but rounding.
    left_out = pulls[0].keys() - pulls[1].keys()
    assert all(name.endswith("token_to_image.k_proj.bias") for name in left_out)
    for name in pulls[1].keys() - {name for name in pulls[1] if name.endswith("k_proj.bias")}:
        expected = pulls[0][name]
        away = (pulls[1][name] - expected).norm() / expected.norm().clamp(min=1e-5)
        assert away < 0.1, name


def test_cells_put_together_are_the_whole() -> None:
    planes = torch.arange(2 * 16 * 16.0).reshape(2, 16, 16)
    torch.testing.assert_close(whole(cells(planes)[:, None])[:, 0], planes)


def test_places_are_different_and_stand_for_the_whole_picture() -> None:
    targets = torch.zeros(2, 128, 128)
    targets[0, 30:90, 22:77] = 1
    targets[1, 3, 5] = 0.5
    chosen = loss_sampling.pick(targets, torch.Generator().manual_seed(1))
    tokens = (128 // 4) ** 2
    assert chosen.indices.shape == (2, round(loss_sampling.SHARE * tokens))
    for indices, weights in zip(chosen.indices, chosen.weights, strict=True):
        assert len(indices.unique()) == len(indices)
        assert weights.sum() == pytest.approx(tokens)
    shown = loss_sampling.at(targets, chosen)
    areas = (shown * chosen.weights[..., None]).sum(dim=(1, 2))
    assert areas[1] == pytest.approx(0.5)  # the edge is seen whole, where there is room
    estimates = []
    for seed in range(40):
        chosen = loss_sampling.pick(targets[:1], torch.Generator().manual_seed(seed))
        estimates.append((loss_sampling.at(targets[:1], chosen) * chosen.weights[..., None]).sum())
    assert torch.stack(estimates).mean() == pytest.approx(float(targets[0].sum()), rel=0.05)


def test_losses_of_a_sample_estimate_those_of_the_picture() -> None:
    random = torch.Generator().manual_seed(2)
    targets = torch.zeros(1, 128, 128)
    targets[0, 30:90, 22:77] = 1
    logits = 4 * targets - 2 + torch.randn(1, 128, 128, generator=random)
    whole = losses.mask_losses(logits[:, None], targets)
    estimates = []
    for seed in range(10):
        chosen = loss_sampling.pick(targets, torch.Generator().manual_seed(seed))
        seen, truth = (loss_sampling.at(planes, chosen) for planes in (logits, targets))
        counts = chosen.weights[..., None].expand_as(truth)
        estimates.append(losses.mask_losses(seen[:, None], truth, counts))
    assert torch.stack(estimates).mean() == pytest.approx(float(whole), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_the_native_gradient_of_depthwise_weights_is_torchs(kernel: int) -> None:
    if depthwise.compiled() is None:
        pytest.skip("no C++ compiler or no ninja, so torch's own gradient is used")
    random = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 32, 13, 11, generator=random).contiguous(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(32, 32, kernel, padding=kernel // 2, groups=32)
    found = []
    for native in (False, True):
        felt = x.clone().requires_grad_()
        convolution.zero_grad()
        if native:
            drawn = depthwise.Depthwise.apply(felt, convolution.weight, convolution.bias)
        else:
            drawn = convolution(felt)
        drawn.square().sum().backward()
        found.append((drawn, felt.grad, convolution.weight.grad, convolution.bias.grad))
    for expected, native in zip(*found, strict=True):
        torch.testing.assert_close(native, expected, rtol=1e-4, atol=1e-3)


@both_gradients
@pytest.mark.parametrize("training", [False, True])
def test_a_pair_kept_in_full_computes_the_same(training: bool) -> None:
    pair = normalised(torch.nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False))
    x = torch.randn(2, 16, 9, 9, generator=torch.Generator().manual_seed(1))
    pair.train()(x)  # statistics that are not the ones at the start
    pair.train(training)
    expected = pair(x)
    depthwise.depthwise_in_full(pair)
    torch.testing.assert_close(pair(x), expected, rtol=1e-4, atol=1e-5)
