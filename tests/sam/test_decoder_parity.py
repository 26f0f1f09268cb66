"""The decoder, plain and re-arranged, answers as the segment-anything package does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.export.networks.reassociated_decoder import (
    Decoder,
    ImageState,
    MaskHead,
    MaskPromptDecoder,
)
from tests.helpers.exported_sam import BOTH_SIZES, ExportedSam

TOLERANCE = 1e-5
"""Of the largest logit: a hundred roundings of float32, which is what the two orders differ by."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the reference takes it."""

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    def as_points(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as we take it: boxes are points, and points without a box are padded."""
        coords, labels = [], []
        if self.points is not None:
            coords.append(self.points)
            labels.append(self.labels)
            if self.boxes is None:
                coords.append(torch.zeros(len(self.points), 1, 2))
                labels.append(torch.full((len(self.points), 1), -1))
        if self.boxes is not None:
            coords.append(self.boxes.reshape(-1, 2, 2))
            labels.append(torch.tensor([[2, 3]]).expand(len(self.boxes), 2))
        return torch.cat(coords, dim=1), torch.cat(labels, dim=1).to(torch.int32)


def prompts(side: int) -> dict[str, Prompt]:
    """Make a prompt of each kind for a square of ``side`` pixels."""
    random = torch.Generator().manual_seed(1)

    def coords(*shape: int) -> torch.Tensor:
        places = 1100 * torch.rand(*shape, 2, generator=random) - 40  # some lie outside
        return places * (side / 1024)

    def labels(*shape: int) -> torch.Tensor:
        return torch.randint(-1, 2, shape, generator=random)

    masks = 6 * torch.randn(2, 1, side // 4, side // 4, generator=random)
    return {
        "a point": Prompt(coords(1, 1), torch.ones(1, 1, dtype=torch.int64)),
        "many points": Prompt(coords(12, 4), labels(12, 4)),
        "boxes": Prompt(boxes=coords(3, 2).reshape(3, 4)),
        "boxes and points": Prompt(coords(2, 3), labels(2, 3), coords(2, 2).reshape(2, 4)),
        "points and masks": Prompt(coords(2, 1), labels(2, 1), masks=masks),
        "boxes and masks": Prompt(boxes=coords(2, 2).reshape(2, 4), masks=masks),
    }


@pytest.fixture(scope="module", params=BOTH_SIZES)
def exported(request) -> ExportedSam:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sam(exported):
    return exported.reference()


@pytest.fixture(scope="module")
def modules(exported):
    return exported.modules()


@pytest.fixture(scope="module")
def embedding(exported):
    grid = exported.shape.grid
    return torch.randn(1, 256, grid, grid, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=prompts(1024))
def asked(request, exported, sam, embedding):
    """A prompt, with the reference's logits and scores for all four slots."""
    prompt = prompts(exported.shape.side)[request.param]
    points = None if prompt.points is None else (prompt.points, prompt.labels)
    sparse, dense = sam.prompt_encoder(points, prompt.boxes, prompt.masks)
    answers = [
        sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        for multimask in (False, True)
    ]
    logits, scores = (torch.cat(parts, dim=1).numpy() for parts in zip(*answers, strict=True))
    return prompt, logits, scores


def assert_close(actual, expected) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_the_plain_modules_answer_as_the_reference(asked, modules, embedding):
    prompt, logits, scores = asked
    encoder = modules.prompt_encoder
    encoded = encoder(*prompt.as_points(), prompt.masks)
    drawn, predicted = modules.mask_decoder(embedding, encoder.dense_positions(), *encoded)
    assert_close(drawn.numpy(), logits)
    assert_close(predicted.numpy(), scores)


def test_the_rearranged_decoder_answers_as_the_reference(asked, modules, embedding):
    prompt, logits, scores = asked
    networks = modules.prompt_encoder, modules.mask_decoder
    state = ImageState(*networks)(embedding)
    coords, labels = prompt.as_points()
    if prompt.masks is None:
        found = Decoder(*networks)(coords, labels, *state)
    else:
        found = MaskPromptDecoder(*networks)(coords, labels, prompt.masks, state[0])
    predicted, vectors, tokens = found
    assert_close(predicted.numpy(), scores)
    head = MaskHead(modules.mask_decoder, embedding.shape[-1])
    assert_close(head(tokens, vectors).numpy(), logits)


@pytest.fixture(scope="module")
def graphs(exported):
    folder = artifacts.read(exported.folder)
    return {
        name: OrtBackend(folder.file(stored), stored.graph, threads=2)
        for name, stored in folder.manifest.graphs.items()
        if name != "encoder"
    }


def test_the_graphs_answer_as_the_reference(asked, graphs, embedding):
    prompt, logits, scores = asked
    state = graphs["image_state"].run({"embedding": embedding.numpy()})
    coords, labels = (part.numpy() for part in prompt.as_points())
    inputs = {"point_coords": coords, "point_labels": labels}
    decoder = graphs["decoder"]
    if prompt.masks is not None:
        decoder, inputs["mask_input"] = graphs["decoder_mask"], prompt.masks.numpy()
    wanted = {port.name for port in decoder.graph.inputs}
    shared = {name: array for name, array in state.items() if name in wanted}
    found = decoder.run({**inputs, **shared})
    assert_close(found.pop("iou_predictions"), scores)
    for slots in (slice(0, 1), slice(1, 4)):
        vectors = np.ascontiguousarray(found["mask_vectors"][:, slots])
        drawn = graphs["mask_head"].run({**found, "mask_vectors": vectors})["low_res_logits"]
        assert_close(drawn, logits[:, slots])


def test_prompts_of_several_images_decode_as_one_by_one(modules, exported):
    encoder, decoder = modules.prompt_encoder, modules.mask_decoder
    random = torch.Generator().manual_seed(3)
    grid, side = exported.shape.grid, exported.shape.side
    embeddings = torch.randn(2, 256, grid, grid, generator=random)
    coords = side * torch.rand(4, 2, 2, generator=random)
    sparse, dense = encoder(coords, torch.ones(4, 2, dtype=torch.int64))
    positions = encoder.dense_positions()
    together = decoder(embeddings, positions, sparse, dense)
    apart = [
        decoder(embeddings[i : i + 1], positions, sparse[2 * i : 2 * i + 2], dense)
        for i in range(2)
    ]
    for joint, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert_close(joint.numpy(), torch.cat(parts).numpy())
