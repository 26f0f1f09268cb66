"""Order in which parallel workers take the tests: file by file, those that take longest first.

Files that need the same expensive fixture of the session go to one worker as one.
"""

from __future__ import annotations

import os

EXPORTED_SAM = (
    "tests/export/test_fp16_folders.py",
    "tests/backends/test_tensorrt_builder.py",
    "tests/test_building_models.py",
    "tests/sam/test_decoder_parity.py",
    "tests/sam/test_model_parity.py",
    "tests/cli/test_compare.py",
    "tests/export/test_image_encoder.py",
    "tests/export/test_int8_folders.py",
    "tests/export/test_sam.py",
    "tests/export/test_sam_checkpoint.py",
    "tests/backends/test_native_encoder.py",
    "tests/compat/test_segment_anything.py",
    "tests/sam/test_medsam_parity.py",
    "tests/export/test_sam_adapter.py",
    "tests/export/test_sam_med2d.py",
)
"""Files that export SAM with a small encoder, which takes half a minute."""

EXPORTED_SAM2 = ("tests/compat/test_sam2.py", "tests/export/test_sam2.py")
"""Files that export SAM 2 with a small encoder."""

LONG = (
    "tests/faults/test_odd_values.py",
    "tests/export/test_tiny_vit.py",
    "tests/export/test_efficient_vit.py",
    "tests/export/test_rep_vit.py",
    "tests/sam/test_mask_generator_parity.py",
    "tests/test_docs.py",
    "tests/backends/test_openvino.py",
    "tests/training/test_sam_nano.py",
    "tests/export/test_unet.py",
    "tests/training/test_echo.py",
    "tests/export/test_fp16_graphs.py",
    "tests/ops/test_chambers.py",
    "tests/cli/test_process.py",
    "tests/training/test_adaptation.py",
    "tests/training/test_finetune.py",
    "tests/cohort/test_cohort.py",
    "tests/server/test_page.py",
    "tests/echo/test_view_finding.py",
)
"""Other files that take ten seconds or more."""

FIRST = (*EXPORTED_SAM, *EXPORTED_SAM2, *LONG)

MOST_WORKERS = 4
"""The longest of the parts takes a quarter of the time of all, so that more workers would wait."""

WORKER_MEMORY = 4 * 2**30
"""Bytes that a worker may need at once."""


def group(nodeid: str) -> str:
    """Name the part of the tests that one worker takes as a whole."""
    file = nodeid.partition("::")[0]
    shared = (files[0] for files in (EXPORTED_SAM, EXPORTED_SAM2) if file in files)
    return next(shared, file)


def rank(nodeid: str) -> int:
    """Tell the place of a test among all: where its file stands in ``FIRST``, or after that."""
    file = nodeid.partition("::")[0]
    return FIRST.index(file) if file in FIRST else len(FIRST)


def worker_count(cores: int, memory: int) -> int:
    """Choose how many workers ``-n auto`` starts on so many cores with so many bytes of memory."""
    return max(1, min(cores, MOST_WORKERS, memory // WORKER_MEMORY))


def machine_memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
