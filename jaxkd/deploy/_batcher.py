"""Requests that arrive together are answered together."""

import asyncio
import contextlib
from typing import NamedTuple

import numpy as np

from jaxkd.deploy._artefact import Artefact


class Refusal(Exception):
    """What is wrong with a request, in words.

    Args:
        status: of the HTTP answer.
        words: a sentence.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Waiting(NamedTuple):
    inputs: dict[str, np.ndarray]
    length: int
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Gathers examples of several requests into one batch.

    Args:
        artefact: what answers.
        max_batch: the most examples in a batch.
        max_wait: seconds to wait for others once a request is there.
        max_waiting: the most examples that may wait.
    """

    def __init__(
        self, artefact: Artefact, max_batch: int, max_wait: float, max_waiting: int
    ) -> None:
        self._artefact = artefact
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_waiting = max_waiting
        self._waiting = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()

        self._worker: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """Runs one example, so that the first request does not wait for a compiler."""
        example = {
            name: np.zeros((1, *want["shape"][1:]), want["dtype"])
            for name, want in self._artefact.manifest["inputs"].items()
        }
        await asyncio.to_thread(self._run, example)

    def stop(self) -> None:
        """Answers no more."""
        if self._worker is not None:
            self._worker.cancel()

    async def answer(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Puts examples in the queue, and waits for what comes back.

        Args:
            inputs: checked arrays of one length.

        Returns:
            Their logits.

        Raises:
            Refusal: if too many are waiting, or the model fails.
        """
        length = len(next(iter(inputs.values())))
        if self._waiting + length > self._max_waiting:
            raise Refusal(503, "too many examples are waiting; try again later.")
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        self._waiting += length
        try:
            answer = asyncio.get_running_loop().create_future()
            await self._queue.put(_Waiting(inputs, length, answer))
            return await answer
        finally:
            self._waiting -= length

    async def _work(self) -> None:
        while True:
            requests = await self._gather()
            inputs = {
                name: np.concatenate([request.inputs[name] for request in requests])
                for name in requests[0].inputs
            }
            try:
                logits = await asyncio.to_thread(self._run, inputs)
            except Exception as error:  # the service outlives it
                words = f"the model failed: {error}"
                for request in requests:
                    _settle(request.answer, error=Refusal(500, words))
                continue
            for request in requests:
                _settle(request.answer, logits[: request.length])
                logits = logits[request.length :]

    async def _gather(self) -> list[_Waiting]:
        requests = [await self._queue.get()]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._max_wait
        while sum(request.length for request in requests) < self._max_batch:
            with contextlib.suppress(asyncio.QueueEmpty):
                requests.append(self._queue.get_nowait())
                continue
            left = deadline - loop.time()
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                requests.append(await asyncio.wait_for(self._queue.get(), left))
        return requests

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        total = len(next(iter(inputs.values())))
        answers = []
        for start in range(0, total, self._max_batch):
            piece = {n: x[start : start + self._max_batch] for n, x in inputs.items()}
            length = min(self._max_batch, total - start)
            padding = min(self._max_batch, 1 << (length - 1).bit_length()) - length
            filled = {
                n: np.concatenate([x, np.repeat(x[-1:], padding, axis=0)])
                for n, x in piece.items()
            }
            logits = np.asarray(self._artefact.predict(filled), np.float32)
            answers.append(logits[:length])
        return np.concatenate(answers)


def _settle(
    answer: asyncio.Future[np.ndarray],
    logits: np.ndarray | None = None,
    error: Exception | None = None,
) -> None:
    if answer.done():  # whoever asked has gone
        return
    if error is not None:
        answer.set_exception(error)
    elif logits is not None:
        answer.set_result(logits)
