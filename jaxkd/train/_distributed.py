"""Several processes as one job."""

import jax


def initialize_distributed(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout_s: int = 300,
) -> None:
    """Joins this process to the others of the job; call it before anything else of jax.

    Afterwards ``jax.devices()`` are those of all processes, the steps of this package
    spread over them, each process brings its own share of the batch
    (see ``shard`` of :class:`jaxkd.data.TrainBatches`), and metrics are the same
    everywhere. On TPU pods and under Slurm or Open MPI all arguments can be left out.

    Args:
        coordinator_address: ``"host:port"`` of process 0.
        num_processes: how many there are.
        process_id: the number of this one, from 0.
        timeout_s: seconds to wait for the others.

    Raises:
        ValueError: if only some of the arguments are given, or one is out of range.
        RuntimeError: if the others do not come in time, or jax has run already.

    Examples:
        >>> from jaxkd import train
        >>> train.initialize_distributed("localhost:1234", 2)
        Traceback (most recent call last):
            ...
        ValueError: give coordinator_address, num_processes and process_id, or none.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError(
            "give coordinator_address, num_processes and process_id, or none."
        )
    if not 0 <= (process_id or 0) < (num_processes or 1):
        raise ValueError(
            f"`process_id` must be in [0, {num_processes}), got {process_id}."
        )
    jax.distributed.initialize(*given, initialization_timeout=timeout_s)
