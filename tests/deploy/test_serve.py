import asyncio
import json
import threading

import jax
import numpy as np
import pytest

from jaxkd import deploy, models

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "net"
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    inputs = {"image": np.ones((2, 4), np.float32)}
    variables = model.init(jax.random.key(0), inputs)
    return deploy.export(model, variables, inputs, folder)


async def call(app, body, path="/predict", method="POST", pieces=1):
    """One request, as a server would hand it to the application."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    size = -(-len(body) // pieces) or 1
    parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": p, "more_body": i + 1 < len(parts)}
        for i, p in enumerate(parts)
    ]
    taken, sent = iter(messages), []

    async def receive():
        return next(taken)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(m.get("body", b"") for m in sent)
    return sent[0]["status"], content


def ask(app, found, **more):
    body = found if isinstance(found, bytes) else json.dumps(found).encode()
    status, content = asyncio.run(call(app, body, **more))
    return status, json.loads(content)


def test_answers_are_the_artefacts(artefact):
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("f4")
    status, found = ask(deploy.make_app(artefact), {"inputs": {"image": x.tolist()}})
    expected = np.asarray(artefact.predict({"image": x}))
    assert status == 200
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-5)
    assert found["classes"] == expected.argmax(1).tolist()


def test_health_says_what_goes_in(artefact):
    status, found = ask(deploy.make_app(artefact), b"", path="/health", method="GET")
    assert status == 200
    assert found["status"] == "ok"
    assert found["inputs"] == {"image": {"shape": ["batch", 4], "dtype": "float32"}}


BAD = {
    b"": "is no JSON",
    b"{": "is no JSON",
    b"\xff": "is no JSON",
    b"[" * 200_000: "is no JSON",
    b"[]": 'must be {"inputs": {"image": [...]}}',
    b'{"inputs": 3}': 'must be {"inputs": {"image": [...]}}',
    b'{"inputs": {}, "more": 1}': 'must be {"inputs": {"image": [...]}}',
    b'{"inputs": {}}': "input 'image' is missing",
    b'{"inputs": {"image": [], "imagee": []}}': "unknown input 'imagee'; did you mean",
    b'{"inputs": {"image": [[1, 2, 3]]}}': "has shape (1, 3), but must be (batch, 4)",
    b'{"inputs": {"image": []}}': "has shape (0,), but must be (batch, 4)",
    b'{"inputs": {"image": 1}}': "has shape (), but must be (batch, 4)",
    b'{"inputs": {"image": [[1, 2, 3, 4], [1]]}}': "rows of different lengths",
    b'{"inputs": {"image": [["1", "2", "3", "4"]]}}': "nested lists of numbers",
    b'{"inputs": {"image": [[null, 2, 3, 4]]}}': "nested lists of numbers",
    b'{"inputs": {"image": [[NaN, 2, 3, 4]]}}': "not finite",
    b'{"inputs": {"image": [[1e999, 2, 3, 4]]}}': "not finite",
    b'{"inputs": {"image": [[1e300, 2, 3, 4]]}}': "not finite as float32",
}


@pytest.mark.parametrize("body", BAD, ids=lambda body: body[:40].decode("latin1"))
def test_what_is_wrong_is_said_in_a_sentence(artefact, body):
    status, found = ask(deploy.make_app(artefact), body)
    assert status == 400
    assert BAD[body] in found["error"]


def test_a_body_that_is_too_large_is_not_read_to_its_end(artefact):
    app = deploy.make_app(artefact, max_body=1000)
    status, found = ask(app, b" " * 100_000, pieces=200)
    assert (status, found["error"]) == (413, "the request is larger than 1000 bytes.")


def test_requests_that_come_together_are_answered_together(artefact):
    lengths, threads = [], set()

    def predict(inputs):
        lengths.append(len(inputs["image"]))
        threads.add(threading.get_ident())
        return artefact.predict(inputs)

    counting = artefact._replace(predict=predict)
    x = np.random.default_rng(0).normal(size=(21, 4)).astype("f4")

    async def run():
        app = deploy.make_app(counting, max_batch=16, max_wait=0.5)
        bodies = [json.dumps({"inputs": {"image": [row]}}) for row in x.tolist()]
        return await asyncio.gather(*(call(app, b.encode()) for b in bodies))

    found = [json.loads(content)["logits"][0] for _, content in asyncio.run(run())]
    np.testing.assert_allclose(found, artefact.predict({"image": x}), rtol=1e-5)
    assert lengths == [16, 8]  # 16 and 5, filled up
    assert threading.get_ident() not in threads


def test_one_request_larger_than_a_batch(artefact):
    x = np.random.default_rng(0).normal(size=(37, 4)).astype("f4")
    app = deploy.make_app(artefact, max_batch=8)
    _, found = ask(app, {"inputs": {"image": x.tolist()}})
    expected = np.asarray(artefact.predict({"image": x}))
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-5)


def test_too_many_waiting_are_sent_away(artefact):
    app = deploy.make_app(artefact, max_waiting=4)
    status, found = ask(app, {"inputs": {"image": [[0, 0, 0, 0]] * 5}})
    assert status == 503
    assert "try again later" in found["error"]
    assert ask(app, {"inputs": {"image": [[0, 0, 0, 0]]}})[0] == 200


def test_a_model_that_fails_does_not_end_the_service(artefact):
    def predict(inputs):
        if inputs["image"][0, 0] == 13:
            raise RuntimeError("bad luck")
        return artefact.predict(inputs)

    async def run():
        app = deploy.make_app(artefact._replace(predict=predict))
        rows = [[13, 0, 0, 0], [1, 0, 0, 0]]
        bodies = [json.dumps({"inputs": {"image": [row]}}) for row in rows]
        return [await call(app, body.encode()) for body in bodies]

    (bad, words), (good, _) = asyncio.run(run())
    assert (bad, good) == (500, 200)
    assert json.loads(words)["error"] == "the model failed: bad luck"


def test_infinite_logits_are_null(artefact):
    masked = artefact._replace(predict=lambda x: np.array([[1.0, -np.inf]]))
    _, found = ask(deploy.make_app(masked), {"inputs": {"image": [[1, 1, 1, 1]]}})
    assert found == {"classes": [0], "logits": [[1.0, None]]}


def test_limits_must_make_sense(artefact):
    with pytest.raises(ValueError, match="`max_batch` must be at least 1, got 0"):
        deploy.make_app(artefact, max_batch=0)
    with pytest.raises(ValueError, match="`max_wait` must not be negative, got -1"):
        deploy.make_app(artefact, max_wait=-1)
