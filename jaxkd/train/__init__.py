"""Training: pure steps, their parallel execution, the loop, evaluation."""

from jaxkd.train._average import average_params, averaged
from jaxkd.train._distributed import initialize_distributed
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
    state_shardings,
)
from jaxkd.train._state import TrainState, copy, init_state
from jaxkd.train._step import TrainStep, make_train_step
from jaxkd.train._stop import Best, Stop, stop_on_signal
from jaxkd.train._watch import Speed, check_not_aliased, device_memory, profile

__all__ = [
    "Best",
    "EvalStep",
    "GuardState",
    "Hook",
    "NonFiniteError",
    "ShardingRules",
    "Speed",
    "Stop",
    "TrainState",
    "TrainStep",
    "average_params",
    "averaged",
    "check_not_aliased",
    "copy",
    "data_mesh",
    "device_memory",
    "evaluate",
    "fit",
    "freeze",
    "fsdp",
    "init_state",
    "initialize_distributed",
    "jit_step",
    "make_eval_step",
    "make_train_step",
    "pad_batch",
    "place",
    "pmap_step",
    "profile",
    "scan_steps",
    "shard_map_step",
    "shardings",
    "skip_nonfinite",
    "stacked",
    "state_shardings",
    "stop_on_signal",
]
