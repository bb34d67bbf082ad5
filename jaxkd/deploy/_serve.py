"""A small HTTP service: JSON in, classes and logits out."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np

from jaxkd._extras import require
from jaxkd.deploy._artefact import Artefact
from jaxkd.deploy._batcher import Batcher, Refusal
from jaxkd.deploy._folder import check_inputs


def make_app(
    artefact: Artefact,
    *,
    max_batch: int = 64,
    max_wait: float = 0.002,
    max_body: int = 2**20,
    max_waiting: int = 1024,
) -> Any:
    """An ASGI application that answers for an artefact.

    ``POST /predict`` takes ``{"inputs": {name: nested lists}}``, the first axis that of
    examples, and gives ``{"classes": [...], "logits": [...]}``; logits that are not
    finite are ``null``. ``GET /health`` says that it runs, and what goes in. What is
    wrong with a request comes back as ``{"error": sentence}``.

    Requests that arrive together are answered in one batch. Batches are filled up to
    powers of two, so that a program is compiled for few lengths.

    Args:
        artefact: of :func:`load`.
        max_batch: the most examples in a batch.
        max_wait: seconds to wait for others once a request is there.
        max_body: the most bytes that a request may have.
        max_waiting: the most examples that may wait; beyond, requests get status 503.

    Returns:
        The application, for any ASGI server.

    Raises:
        ModuleNotFoundError: if the extra ``serve`` is not installed.
        ValueError: if a limit is not positive.
    """
    starlette = require("starlette.applications", "serve")
    routing = require("starlette.routing", "serve")
    _check_limits(max_wait, batch=max_batch, body=max_body, waiting=max_waiting)
    batcher = Batcher(artefact, max_batch, max_wait, max_waiting)
    health = {
        "status": "ok",
        "kind": artefact.manifest["kind"],
        "inputs": artefact.manifest["inputs"],
        "output": artefact.manifest["output"],
    }

    async def predict(request: Any) -> Any:
        try:
            inputs = _parse(await _body(request, max_body), artefact.manifest["inputs"])
            logits = await batcher.answer(inputs)
        except Refusal as refusal:
            return _json({"error": str(refusal)}, refusal.status)
        return _json({"classes": np.argmax(logits, -1), "logits": logits})

    async def show_health(request: Any) -> Any:
        return _json(health)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await batcher.warm_up()
        yield
        batcher.stop()

    routes = [
        routing.Route("/predict", predict, methods=["POST"]),
        routing.Route("/health", show_health, methods=["GET"]),
    ]
    return starlette.Starlette(routes=routes, lifespan=lifespan)


def _check_limits(max_wait: float, **limits: int) -> None:
    for name, limit in limits.items():
        if limit < 1:
            raise ValueError(f"`max_{name}` must be at least 1, got {limit}.")
    if not max_wait >= 0:
        raise ValueError(f"`max_wait` must not be negative, got {max_wait}.")


def serve(
    artefact: Artefact,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[], Any] = lambda: None,
    **limits: Any,
) -> None:
    """Serves an artefact until it is told to stop.

    It has no users and no passwords: beyond this machine, put it behind something that
    has.

    Args:
        artefact: of :func:`load`.
        host: the address to listen on; this machine only by default.
        port: the port.
        ready: called once the port is bound.
        **limits: of :func:`make_app`.

    Raises:
        ModuleNotFoundError: if the extra ``serve`` is not installed.
    """
    server = require("uvicorn", "serve")
    app = make_app(artefact, **limits)
    config = server.Config(app, host=host, port=port, log_level="warning")
    socket = config.bind_socket()
    ready()
    server.Server(config).run(sockets=[socket])


async def _body(request: Any, most: int) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise Refusal(413, f"the request is larger than {most} bytes.")
    return body


def _parse(body: bytes, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    inputs = _read(body, wanted)
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise Refusal(400, f"input {missing[0]!r} is missing.")
    try:
        checked = check_inputs({n: _array(n, x) for n, x in inputs.items()}, wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refusal(400, str(error)) from error
    for name, x in checked.items():
        if not np.isfinite(x).all():
            raise Refusal(400, f"input {name!r} is not finite as {x.dtype}.")
    return checked


def _read(body: bytes, wanted: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "the request is no JSON.") from error
    inputs = found.get("inputs") if isinstance(found, dict) else None
    if not isinstance(inputs, dict) or len(found) != 1:
        names = ", ".join(f'"{name}": [...]' for name in wanted)
        raise Refusal(400, f'the request must be {{"inputs": {{{names}}}}}.')
    return inputs


def _array(name: str, found: Any) -> np.ndarray:
    try:
        array = np.asarray(found)
    except ValueError as error:
        raise ValueError(f"input {name!r} has rows of different lengths.") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"input {name!r} must be nested lists of numbers.")
    return array


def _json(found: Mapping[str, Any], status: int = 200) -> Any:
    responses = require("starlette.responses", "serve")
    plain = {name: _plain(x) for name, x in found.items()}
    return responses.JSONResponse(plain, status_code=status)


def _plain(x: Any) -> Any:
    """Arrays as nested lists; JSON knows no infinities (of masked classes)."""
    if not isinstance(x, np.ndarray):
        return x
    plain = x.astype(object)
    plain[~np.isfinite(x)] = None
    return plain.tolist()
