"""The native kernels. Arguments are checked here and computed in C++, and nowhere else.

Every function gives the same bits for any number of threads and on any processor. Exceptions are
``measure_shapes``, which uses the C library's functions of angles, and the kernels of networks
(``DecoderKernel``, ``EncoderKernel``, ``UnetKernel``), which round. Functions that take ``Rle``
raise ``MaskError`` when run lengths do not sum to height times width.
"""

try:
    import fastseg._core  # noqa: F401 - imported to find out that it exists
except ModuleNotFoundError as error:
    from fastseg.environment import install_hint

    raise ImportError(
        "the native kernels (fastseg._core) are not built in the source folder that Python imports "
        f"fastseg from, {__file__.rpartition('/ops/')[0]}. {install_hint()}; or start Python in "
        "another folder, where it finds the fastseg that is installed."
    ) from error

from fastseg.ops.binarise import Binarised, binarise, row_threshold_kernels
from fastseg.ops.boxes import box_nms, near_crop_edge
from fastseg.ops.chambers import ChamberScores, chamber_scores, clean_chambers
from fastseg.ops.distance_transform import Metric, distance_transform
from fastseg.ops.echo_unet import UNET_KERNEL_TABLE, UnetKernel, unet_unsupported_reason
from fastseg.ops.enlarge_cubic import enlarge_cubic
from fastseg.ops.frames import frame_input, masks_to_frame
from fastseg.ops.label_components import label_components
from fastseg.ops.measure_shapes import Shapes, measure_shapes
from fastseg.ops.palette_to_rgb import palette_to_rgb
from fastseg.ops.peak_rates import PeakRates, peak_rates
from fastseg.ops.point_grid import point_grid
from fastseg.ops.preprocess import preprocess, resize_bilinear
from fastseg.ops.rle import Rle
from fastseg.ops.rle_ops import (
    rle_areas,
    rle_boxes,
    rle_check,
    rle_from_array,
    rle_from_strings,
    rle_iou,
    rle_polygons,
    rle_remove_small_regions,
    rle_to_array,
    rle_to_strings,
)
from fastseg.ops.sam_decoder import DecodedPrompts, DecoderKernel, computes_in_bf16, kernel_tables
from fastseg.ops.sam_encoder import EncoderKernel
from fastseg.ops.ycbcr_to_rgb import ycbcr_to_rgb

__all__ = [
    "UNET_KERNEL_TABLE",
    "Binarised",
    "ChamberScores",
    "DecodedPrompts",
    "DecoderKernel",
    "EncoderKernel",
    "Metric",
    "PeakRates",
    "Rle",
    "Shapes",
    "UnetKernel",
    "binarise",
    "box_nms",
    "chamber_scores",
    "clean_chambers",
    "computes_in_bf16",
    "distance_transform",
    "enlarge_cubic",
    "frame_input",
    "kernel_tables",
    "label_components",
    "masks_to_frame",
    "measure_shapes",
    "near_crop_edge",
    "palette_to_rgb",
    "peak_rates",
    "point_grid",
    "preprocess",
    "resize_bilinear",
    "rle_areas",
    "rle_boxes",
    "rle_check",
    "rle_from_array",
    "rle_from_strings",
    "rle_iou",
    "rle_polygons",
    "rle_remove_small_regions",
    "rle_to_array",
    "rle_to_strings",
    "row_threshold_kernels",
    "unet_unsupported_reason",
    "ycbcr_to_rgb",
]
