"""The training decoder: the function of the published one, computed at sampled tokens."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from fastseg.export.networks.nano_encoder import normalised
from training.sam_nano import depthwise, loss_sampling, losses
from training.sam_nano.batches import PromptBatch
from training.sam_nano.network import SamNano
from training.sam_nano.training_decoder import patchify, sampled_logits, unpatchify


def prompt_batch(*, masks: bool) -> PromptBatch:
    """Draw six boxes, three on each of two windows of 128 pixels."""
    random = torch.Generator().manual_seed(3)
    corners = torch.rand(6, 2, 2, generator=random) * 128
    logits = 8 * torch.randn(6, 1, 32, 32, generator=random) if masks else None
    kinds = torch.tensor([2, 3], dtype=torch.int32).expand(6, 2)
    return PromptBatch(
        corners, kinds, logits, (corners[:, :1, :1] > torch.zeros(6, 32, 32)).float()
    )


@pytest.mark.parametrize("masks", [False, True])
def test_logits_at_all_tokens_are_those_of_the_decoder(masks: bool) -> None:
    network, prompts = SamNano(5), prompt_batch(masks=masks)
    embedding = 0.3 * torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected, scores = network.predict(embedding, prompts, (3, 5))
        transformed, fast_scores = network.transform(embedding, prompts, (3, 5))
        drawn = unpatchify(sampled_logits(network.mask_decoder, transformed, None))
    # bfloat16 keeps 8 bits.
    assert (drawn - expected).abs().max() < 0.05 * expected.abs().max()
    assert (fast_scores - scores).abs().max() < 0.05


def test_sampled_logits_have_the_gradients_of_whole_masks() -> None:
    prompts = prompt_batch(masks=False)
    embedding = 0.3 * torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(4))
    every = torch.arange(64).expand(6, 64)
    gradients = []
    for sampled in (False, True):
        network, given = SamNano(5), embedding.clone().requires_grad_()
        if sampled:
            transformed, scores = network.transform(given, prompts, (0, 0))
            logits = unpatchify(sampled_logits(network.mask_decoder, transformed, every))
        else:
            logits, scores = network.predict(given, prompts, (0, 0))
        (losses.mask_losses(logits, prompts.targets).mean() + scores.square().mean()).backward()
        named = dict(network.mask_decoder.named_parameters())
        gradients.append({name: p.grad for name, p in named.items() if p.grad is not None})
        gradients[-1]["embedding"] = given.grad
    # The bias of keys among image tokens cancels in the softmax: it learns nothing but rounding.
    left_out = gradients[0].keys() - gradients[1].keys()
    assert all(name.endswith("token_to_image.k_proj.bias") for name in left_out)
    for name in gradients[1].keys() - {
        name for name in gradients[1] if name.endswith("k_proj.bias")
    }:
        expected = gradients[0][name]
        away = (gradients[1][name] - expected).norm() / expected.norm().clamp(min=1e-5)
        assert away < 0.1, name


def test_unpatchify_inverts_patchify() -> None:
    planes = torch.arange(2 * 16 * 16.0).reshape(2, 16, 16)
    torch.testing.assert_close(unpatchify(patchify(planes)[:, None])[:, 0], planes)


def test_sampled_tokens_differ_and_represent_the_image() -> None:
    targets = torch.zeros(2, 128, 128)
    targets[0, 30:90, 22:77] = 1
    targets[1, 3, 5] = 0.5
    sample = loss_sampling.sample_tokens(targets, torch.Generator().manual_seed(1))
    tokens = (128 // 4) ** 2
    assert sample.indices.shape == (2, round(loss_sampling.SHARE * tokens))
    for indices, weights in zip(sample.indices, sample.weights, strict=True):
        assert len(indices.unique()) == len(indices)
        assert weights.sum() == pytest.approx(tokens)
    shown = loss_sampling.gather_pixels(targets, sample)
    areas = (shown * sample.weights[..., None]).sum(dim=(1, 2))
    assert areas[1] == pytest.approx(0.5)  # the edge is seen whole, where there is room
    estimates = []
    for seed in range(40):
        sample = loss_sampling.sample_tokens(targets[:1], torch.Generator().manual_seed(seed))
        estimates.append(
            (loss_sampling.gather_pixels(targets[:1], sample) * sample.weights[..., None]).sum()
        )
    assert torch.stack(estimates).mean() == pytest.approx(float(targets[0].sum()), rel=0.05)


def test_losses_of_a_sample_estimate_those_of_the_image() -> None:
    random = torch.Generator().manual_seed(2)
    targets = torch.zeros(1, 128, 128)
    targets[0, 30:90, 22:77] = 1
    logits = 4 * targets - 2 + torch.randn(1, 128, 128, generator=random)
    whole = losses.mask_losses(logits[:, None], targets)
    estimates = []
    for seed in range(10):
        sample = loss_sampling.sample_tokens(targets, torch.Generator().manual_seed(seed))
        seen, truth = (loss_sampling.gather_pixels(planes, sample) for planes in (logits, targets))
        counts = sample.weights[..., None].expand_as(truth)
        estimates.append(losses.mask_losses(seen[:, None], truth, counts))
    assert torch.stack(estimates).mean() == pytest.approx(float(whole), rel=0.03)


@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_the_native_depthwise_gradient_is_that_of_torch(kernel: int) -> None:
    if depthwise.compiled() is None:
        pytest.skip("no C++ compiler or no ninja, so torch's own gradient is used")
    random = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 32, 13, 11, generator=random).contiguous(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(32, 32, kernel, padding=kernel // 2, groups=32)
    found = []
    for native in (False, True):
        given = x.clone().requires_grad_()
        convolution.zero_grad()
        if native:
            drawn = depthwise.Depthwise.apply(given, convolution.weight, convolution.bias)
        else:
            drawn = convolution(given)
        drawn.square().sum().backward()
        found.append((drawn, given.grad, convolution.weight.grad, convolution.bias.grad))
    for expected, native in zip(*found, strict=True):
        torch.testing.assert_close(native, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_a_folded_normalisation_computes_the_same(training: bool) -> None:
    pair = normalised(torch.nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False))
    x = torch.randn(2, 16, 9, 9, generator=torch.Generator().manual_seed(1))
    pair.train()(x)  # statistics that are not the ones at the start
    pair.train(training)
    expected = pair(x)
    depthwise.depthwise_in_float32(pair)
    torch.testing.assert_close(pair(x), expected, rtol=1e-4, atol=1e-5)
