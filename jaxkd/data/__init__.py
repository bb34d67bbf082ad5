"""Data: dict batches with `index` and `mask`, from arrays, files and TFDS."""

from jaxkd.data import augment
from jaxkd.data._arrays import (
    Arrays,
    EvalBatches,
    TrainBatches,
    Transform,
    eval_batches,
)
from jaxkd.data._audio import read_audio
from jaxkd.data._dataset import Dataset
from jaxkd.data._grain import GrainBatches, Source, grain_batches
from jaxkd.data._idx import read_idx
from jaxkd.data._images import read_images
from jaxkd.data._mel import log_mel
from jaxkd.data._prepare import prepare
from jaxkd.data._tables import read_npz, read_parquet
from jaxkd.data._text import read_text, tokenize
from jaxkd.data._tfds import from_tfds, tfds_arrays, tfds_source

__all__ = [
    "Arrays",
    "Dataset",
    "EvalBatches",
    "GrainBatches",
    "Source",
    "TrainBatches",
    "Transform",
    "augment",
    "eval_batches",
    "from_tfds",
    "grain_batches",
    "log_mel",
    "prepare",
    "read_audio",
    "read_idx",
    "read_images",
    "read_npz",
    "read_parquet",
    "read_text",
    "tfds_arrays",
    "tfds_source",
    "tokenize",
]
