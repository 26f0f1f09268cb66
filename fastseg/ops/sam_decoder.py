"""The decoder of promptable models as a native kernel: weights opened once, and two stages.

Unlike the other kernels this one answers within rounding, not bit for bit: in float32 about 1e-6 of
the largest logit from the torch modules, in bfloat16 about 5e-3. For one processor and kernel table
the bits are always the same, for any number of threads and any prompts in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.contract import MASK_SLOTS, MULTIPLE
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.weights import Floats, opened


class DecodedPrompts(NamedTuple):
    """Result of the first stage for ``n`` prompts."""

    iou_predictions: Floats
    """``(n, 4)``."""

    mask_vectors: Floats
    """``(n, 4, vector)``."""

    prompt_state: Floats
    """``(n, floats)`` from which ``draw`` recomputes the image tokens of each prompt; 14 KB for a
    point, and 256 KB more with a mask prompt."""


def kernel_tables() -> tuple[str, ...]:
    """List the kernel tables that this processor supports, fastest first.

    A kernel table holds the matrix products for one instruction set. ``"amx-bf16"`` and
    ``"avx512-bf16"`` take bfloat16 operands; ``"avx512"``, ``"avx2"`` and ``"portable"`` (on ARM
    ``"neon"``) take float32.
    """
    return tuple(_core.kernel_tables())


def computes_in_bf16(kernel_table: str) -> bool:
    """Check that the operands of a kernel table are bfloat16."""
    return kernel_table.endswith("bf16")


class DecoderKernel:
    """Prompt encoder and mask decoder of SAM, SAM 2 or SAM-HQ, weights in the kernel's own layout.

    Args:
        weights: Float32 arrays by their names in a SAM checkpoint, without the image encoder's.
            SAM 2's have ``mask_decoder.obj_score_token.weight`` too: prompts then carry that token,
            predicted IoUs go through a sigmoid, and images come with maps of higher resolution.
            SAM-HQ's have ``mask_decoder.hf_token.weight``: each mask is the sum of SAM's and of one
            that the prompt's masks share, and its vector is 64 long.
        grid: Side of the image embedding in tokens, at least 1; 64 in SAM.
        side: Side of the square input in pixels; 1024 in SAM.
        kernel_table: One of ``kernel_tables()``; for SAM-HQ one that computes in float32.

    Raises:
        BackendError: This processor does not support the kernel table.
        ModelFolderError: A weight is missing or has another shape; the message names it.
    """

    def __init__(
        self, weights: Mapping[str, Floats], *, grid: int, side: int, kernel_table: str
    ) -> None:
        if kernel_table not in kernel_tables():
            raise BackendError(
                f"The native decoder has no kernel table {kernel_table!r} on this processor. "
                f"Use one of {', '.join(kernel_tables())}."
            )
        if grid < 1 or side < 1:
            raise BackendError(f"grid and side must be at least 1, not {grid} and {side}.")
        self._decoder = opened(
            _core.decoder_open, weights, grid, side, kernel_table, network="SAM's decoder"
        )
        self.grid = grid
        self.state_size, _, self.vector = _core.decoder_sizes(self._decoder, 0, False)
        """Number of floats of the state that the prompts of one image share, and of the vector of
        one mask: 32, or 64 for SAM-HQ."""
        self._map_sizes = _core.decoder_maps(self._decoder)

    def image_state(self, embedding: Floats, *maps: Floats, threads: int = 0) -> Floats:
        """Compute the state that the prompts of one image share.

        Args:
            embedding: ``(1, 256, grid, grid)`` float32 from the image encoder.
            *maps: What the encoder gives beside it, none for SAM. For SAM 2 the maps of twice and
                of four times the resolution, ``(1, 4 * grid * grid, 64)`` and
                ``(1, 4 * grid * grid, 128)`` float32, by sub-pixels as the encoder's graph orders
                them; for SAM-HQ its features, ``(1, 32, 4 * grid, 4 * grid)`` float32.
            threads: Most threads to use, 0 for all cores.

        Returns:
            ``(1, state_size)`` float32 in the kernel's own layout, for this kernel table.

        Raises:
            BackendError: An array has another size, or is one too many or too few.
        """
        wanted = (1, 256, self.grid, self.grid)
        if embedding.shape != wanted:
            raise BackendError(f"embedding must be {wanted}, not {embedding.shape}.")
        sizes = [array.size for array in (embedding, *maps)]
        if sizes != self._map_sizes:
            raise BackendError(
                f"This decoder takes arrays of {self._map_sizes} values of an image, the embedding "
                f"first, not {sizes}."
            )
        state = np.empty((1, self.state_size), np.float32)
        flat = [np.ascontiguousarray(array, np.float32).ravel() for array in (embedding, *maps)]
        _core.decoder_image_state(self._decoder, flat, state, checks.threads(threads))
        return state

    def decode(
        self,
        points: Floats,
        labels: NDArray[np.int32],
        states: Floats,
        *,
        masks: Floats | None = None,
        image_index: NDArray[np.int32] | None = None,
        threads: int = 0,
    ) -> DecodedPrompts:
        """Run the first stage.

        Args:
            points: ``(n, points, 2)`` float32 pixels of the square, x before y.
            labels: ``(n, points)`` int32, -1 to 3 as in ``contract``.
            states: ``(images, state_size)`` from ``image_state``.
            masks: ``(n, 1, 4 * grid, 4 * grid)`` float32 logits of earlier masks, or None.
            image_index: ``(n,)`` int32, the image of each prompt; None for the first.
            threads: Most threads to use, 0 for all cores.

        Raises:
            BackendError: Shapes contradict each other, or a label is out of range.
        """
        count, per_prompt = labels.shape
        self._check_prompts(points, labels, states, masks)
        state_size = _core.decoder_sizes(self._decoder, per_prompt, masks is not None)[1]
        found = DecodedPrompts(
            np.empty((count, MASK_SLOTS), np.float32),
            np.empty((count, MASK_SLOTS, self.vector), np.float32),
            np.empty((count, state_size), np.float32),
        )
        with _backend_errors():
            _core.decoder_decode(
                self._decoder,
                np.ascontiguousarray(points, np.float32),
                np.ascontiguousarray(labels, np.int32),
                _contiguous(masks),
                np.ascontiguousarray(states),
                _images(image_index, count),
                *found,
                checks.threads(threads),
            )
        return found

    def decode_above(
        self,
        points: Floats,
        labels: NDArray[np.int32],
        states: Floats,
        *,
        above: float,
        masks: Floats | None = None,
        slots: slice = MULTIPLE,
        extent: tuple[int, int] | None = None,
        threads: int = 0,
    ) -> tuple[Floats, Floats]:
        """Run both stages for prompts on one image, the second only for masks above a score.

        The numbers equal those of ``decode`` and ``draw``. This is faster, because image tokens are
        computed once, not twice.

        Args:
            points: ``(n, points, 2)`` float32 pixels of the square, x before y.
            labels: ``(n, points)`` int32, -1 to 3 as in ``contract``.
            states: ``(1, state_size)`` from ``image_state``.
            above: Masks whose predicted IoU is above this are drawn; minus infinity draws all of
                them, whatever their score.
            masks: As given to ``decode``.
            slots: The m slots whose masks are wanted, ``slice(first, end)`` of
                ``contract.MASK_SLOTS``.
            extent: Rows and columns of the logits that are wanted, from the top left, 1 to
                ``4 * grid``; None for all. An image that does not fill its square needs no others.
            threads: Most threads to use, 0 for all cores.

        Returns:
            ``(n, 4)`` float32 predicted IoUs, and ``(n, m, 4 * grid, 4 * grid)`` float32 logits of
            ``slots``, undefined where a mask was not drawn and outside ``extent``.

        Raises:
            BackendError: Shapes contradict each other, or a label, ``slots`` or ``extent`` is out
                of range.
        """
        self._check_prompts(points, labels, states, masks)
        ious = np.empty((len(labels), MASK_SLOTS), np.float32)
        logits = self._undrawn(len(labels), max(0, slots.stop - slots.start))
        rows, columns = extent or logits.shape[2:]
        with _backend_errors():
            _core.decoder_decode_above(
                self._decoder,
                np.ascontiguousarray(points, np.float32),
                np.ascontiguousarray(labels, np.int32),
                _contiguous(masks),
                np.ascontiguousarray(states),
                above,
                ious,
                slots.start,
                slots.stop,
                logits,
                rows,
                columns,
                checks.threads(threads),
            )
        return ious, logits

    def draw(
        self,
        prompt_state: Floats,
        mask_vectors: Floats,
        states: Floats,
        *,
        image_index: NDArray[np.int32] | None = None,
        threads: int = 0,
    ) -> Floats:
        """Run the second stage.

        Args:
            prompt_state: ``(n, floats)`` from ``decode``.
            mask_vectors: ``(n, masks, vector)``, those of the masks to draw. In SAM-HQ's, the
                second half is read off the first mask of each prompt.
            states: As given to ``decode``.
            image_index: As given to ``decode``.
            threads: Most threads to use, 0 for all cores.

        Returns:
            ``(n, masks, 4 * grid, 4 * grid)`` float32 logits.

        Raises:
            BackendError: Shapes contradict each other, or prompt states are not from ``decode``.
        """
        self._check_states(states)
        count, masks = len(prompt_state), mask_vectors.shape[1]
        if mask_vectors.shape != (count, masks, self.vector) or prompt_state.ndim != 2:
            raise BackendError(
                f"prompt_state must be (n, floats) and mask_vectors (n, masks, {self.vector}), "
                f"not {prompt_state.shape} and {mask_vectors.shape}."
            )
        logits = self._undrawn(count, masks)
        with _backend_errors():
            _core.decoder_draw(
                self._decoder,
                np.ascontiguousarray(prompt_state, np.float32),
                np.ascontiguousarray(mask_vectors, np.float32),
                np.ascontiguousarray(states),
                _images(image_index, count),
                logits,
                checks.threads(threads),
            )
        return logits

    def _undrawn(self, count: int, masks: int) -> Floats:
        """Return an uninitialised array for the logits of ``masks`` masks of each prompt."""
        low = 4 * self.grid
        return np.empty((count, masks, low, low), np.float32)

    def _check_prompts(
        self, points: Floats, labels: NDArray[np.int32], states: Floats, masks: Floats | None
    ) -> None:
        self._check_states(states)
        if points.shape != (*labels.shape, 2):
            raise BackendError(f"points must be {(*labels.shape, 2)}, not {points.shape}.")
        low = 4 * self.grid
        if masks is not None and masks.shape != (len(labels), 1, low, low):
            raise BackendError(f"masks must be {(len(labels), 1, low, low)}, not {masks.shape}.")

    def _check_states(self, states: Floats) -> None:
        if states.ndim != 2 or states.shape[1] != self.state_size or states.dtype != np.float32:
            raise BackendError(
                f"states must be float32 (images, {self.state_size}), not {states.dtype} "
                f"{states.shape}: they are of another model, precision or processor."
            )


def _contiguous(masks: Floats | None) -> Floats | None:
    return None if masks is None else np.ascontiguousarray(masks, np.float32)


def _images(index: NDArray[np.int32] | None, count: int) -> NDArray[np.int32]:
    if index is None:
        return np.zeros(count, np.int32)
    if index.shape != (count,):
        raise BackendError(f"image_index must be {(count,)}, not {index.shape}.")
    return np.ascontiguousarray(index, np.int32)


@contextmanager
def _backend_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise BackendError(f"The native decoder refuses its input: {error}.") from error
