"""Public names with their types; ``__init__.py`` imports each when it is first used."""

from fastseg import cohort as cohort
from fastseg import imaging as imaging
from fastseg.artifacts.registry import list_models as list_models
from fastseg.diagnosis import doctor as doctor
from fastseg.echo.unet import Unet as Unet
from fastseg.errors import BackendError as BackendError
from fastseg.errors import BackendUnavailableError as BackendUnavailableError
from fastseg.errors import CheckpointError as CheckpointError
from fastseg.errors import CohortError as CohortError
from fastseg.errors import EmbeddingError as EmbeddingError
from fastseg.errors import FastsegError as FastsegError
from fastseg.errors import ImageError as ImageError
from fastseg.errors import MaskError as MaskError
from fastseg.errors import MeasurementError as MeasurementError
from fastseg.errors import ModelError as ModelError
from fastseg.errors import ModelFolderError as ModelFolderError
from fastseg.errors import ModelNotFoundError as ModelNotFoundError
from fastseg.errors import OutputError as OutputError
from fastseg.errors import ParityError as ParityError
from fastseg.errors import PromptError as PromptError
from fastseg.errors import ServerError as ServerError
from fastseg.geometry import Frame as Frame
from fastseg.guided.ritm import Ritm as Ritm
from fastseg.guided.specialist import Specialist as Specialist
from fastseg.images import read_image as read_image
from fastseg.loading import load as load
from fastseg.masks import Masks as Masks
from fastseg.sam.embedding import Embedding as Embedding
from fastseg.sam.embedding_cache import EmbeddingCache as EmbeddingCache
from fastseg.sam.model import Sam as Sam
from fastseg.sam.prototypes import Prototypes as Prototypes
from fastseg.timings import Timings as Timings
from fastseg.validation.autotune import calibrate as calibrate

__version__: str
__all__: list[str]
