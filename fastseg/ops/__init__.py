"""The native kernels with types: arrays are checked here, computed in C++, and nowhere else.

Every function is exact: the same bits for any number of threads and on any processor, but for what
``measure_shapes`` says of the C library, and the kernels of networks, ``DecoderKernel``,
``EncoderKernel`` and ``UnetKernel``, of rounding.
Those that take ``Runs`` raise ``MaskError`` when run lengths do not sum to height times width.
"""

try:
    import fastseg._core  # noqa: F401 - only whether it is there
except ModuleNotFoundError as error:
    from fastseg.environment import install_hint

    raise ImportError(
        "the native kernels (fastseg._core) are not built in the source folder that Python imports "
        f"fastseg from, {__file__.rpartition('/ops/')[0]}. {install_hint()}; or start Python in "
        "another folder, where it finds the fastseg that is installed."
    ) from error

from fastseg.ops.binarise import Binarised, binarise, sieves
from fastseg.ops.boxes import box_nms, near_crop_edge
from fastseg.ops.chambers import ChamberScores, chamber_scores, clean_chambers
from fastseg.ops.echo_unet import UNET_TABLE, UnetKernel, unet_misfit
from fastseg.ops.frames import frame_input, masks_to_frame
from fastseg.ops.measure_shapes import Shapes, measure_shapes
from fastseg.ops.point_grid import point_grid
from fastseg.ops.preprocess import preprocess, resize_bilinear
from fastseg.ops.rle import Runs
from fastseg.ops.rle_ops import (
    runs_areas,
    runs_boxes,
    runs_check,
    runs_from_array,
    runs_from_strings,
    runs_iou,
    runs_polygons,
    runs_remove_small_regions,
    runs_to_array,
    runs_to_strings,
)
from fastseg.ops.sam_decoder import DecodedPrompts, DecoderKernel, computes_in_bf16, decoder_tables
from fastseg.ops.sam_encoder import EncoderKernel, encoder_tables

__all__ = [
    "UNET_TABLE",
    "Binarised",
    "ChamberScores",
    "DecodedPrompts",
    "DecoderKernel",
    "EncoderKernel",
    "Runs",
    "Shapes",
    "UnetKernel",
    "binarise",
    "box_nms",
    "chamber_scores",
    "clean_chambers",
    "computes_in_bf16",
    "decoder_tables",
    "encoder_tables",
    "frame_input",
    "masks_to_frame",
    "measure_shapes",
    "near_crop_edge",
    "point_grid",
    "preprocess",
    "resize_bilinear",
    "runs_areas",
    "runs_boxes",
    "runs_check",
    "runs_from_array",
    "runs_from_strings",
    "runs_iou",
    "runs_polygons",
    "runs_remove_small_regions",
    "runs_to_array",
    "runs_to_strings",
    "sieves",
    "unet_misfit",
]
