"""The vocabulary of shapes: the one place where shared type aliases are defined."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Logits: TypeAlias = Float[Array, "*batch classes"]
OtherLogits: TypeAlias = Float[Array, "*batch other_classes"]
CommonLogits: TypeAlias = Float[Array, "*batch common_classes"]
Labels: TypeAlias = Int[Array, "*batch"]
PerExample: TypeAlias = Float[Array, "*batch"]
Where: TypeAlias = Bool[Array, "*batch"]
ClassMask: TypeAlias = Bool[Array, " classes"]
Features: TypeAlias = Float[Array, "batch *positions channels"]
OtherFeatures: TypeAlias = Float[Array, "batch *positions other_channels"]
AnyFeatures: TypeAlias = Float[Array, "batch ..."]  # where the two sides may differ
Channels: TypeAlias = Float[Array, " channels"]
Examples: TypeAlias = Bool[Array, " batch"]
Positions: TypeAlias = Bool[Array, " batch *positions"]
Scalar: TypeAlias = Float[Array, ""]
PRNGKey: TypeAlias = Key[Array, ""]
Params: TypeAlias = PyTree[Any]
Tree: TypeAlias = PyTree[Any]
Batch: TypeAlias = Mapping[str, Any]
# Numbers of Python or numpy; a whole one is real, too.
Whole: TypeAlias = int | np.integer
Real: TypeAlias = float | np.floating | Whole
Number: TypeAlias = Real | np.ndarray | Array  # one number, perhaps traced
Metrics: TypeAlias = dict[str, jax.Array]
