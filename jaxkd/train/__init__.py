"""Training: pure steps, their parallel execution, the loop, evaluation."""

from jaxkd.train._average import average_params, averaged
from jaxkd.train._evaluate import EvalStep, evaluate, make_eval_step
from jaxkd.train._fit import Hook, NonFiniteError, fit
from jaxkd.train._freeze import freeze
from jaxkd.train._guard import GuardState, skip_nonfinite
from jaxkd.train._parallel import jit_step, pmap_step, shard_map_step
from jaxkd.train._scan import scan_steps, stacked
from jaxkd.train._sharding import (
    ShardingRules,
    data_mesh,
    fsdp,
    pad_batch,
    place,
    shardings,
)
from jaxkd.train._state import TrainState, copy, init_state
from jaxkd.train._step import TrainStep, make_train_step

__all__ = [
    "EvalStep",
    "GuardState",
    "Hook",
    "NonFiniteError",
    "ShardingRules",
    "TrainState",
    "TrainStep",
    "average_params",
    "averaged",
    "copy",
    "data_mesh",
    "evaluate",
    "fit",
    "freeze",
    "fsdp",
    "init_state",
    "jit_step",
    "make_eval_step",
    "make_train_step",
    "pad_batch",
    "place",
    "pmap_step",
    "scan_steps",
    "shard_map_step",
    "shardings",
    "skip_nonfinite",
    "stacked",
]
