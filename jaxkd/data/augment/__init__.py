"""Augmentation of whole batches: factories of transforms ``(key, batch) -> batch``.

A batch is augmented once, before the step, so that teacher and student see the same
view of each example: function matching (Beyer et al., `Knowledge distillation: A good
teacher is patient and consistent <https://arxiv.org/abs/2106.05237>`_, 2021).

Images are ``batch["image"]``, ``[batch, height, width, channels]``, floating point;
where colours matter, in ``[0, 1]``, so normalise afterwards. Every example has
its own draw. What a transform does not speak of, such as ``index`` and ``mask``, passes
untouched.
"""

from jaxkd.data.augment._base import compose, to_float
from jaxkd.data.augment._colour import colour
from jaxkd.data.augment._crops import cutout, flip, pad_crop
from jaxkd.data.augment._damage import blur, noise
from jaxkd.data.augment._mixing import cutmix, mixup
from jaxkd.data.augment._policy import rand_augment
from jaxkd.data.augment._spectra import spec_augment
from jaxkd.data.augment._warps import rotate, zoom

__all__ = [
    "blur",
    "colour",
    "compose",
    "cutmix",
    "cutout",
    "flip",
    "mixup",
    "noise",
    "pad_crop",
    "rand_augment",
    "rotate",
    "spec_augment",
    "to_float",
    "zoom",
]
