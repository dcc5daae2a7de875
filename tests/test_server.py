"""The rerank server over real HTTP: with Cohere's client, 32 clients at once, killed in the middle, and bad requests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from conftest import ROOT, tiny_model

from course_utils.errors import InputError
from course_utils.model import Reranker
from course_utils.model.checkpoint import _weights_hash
from course_utils.ship import Limits, rank_long, serve
from course_utils.ship.server import _rerank_app

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

DOCUMENTS = [
    "Give fluids and let the child rest.",
    "租房合同要写明押金。",
    "The bus leaves at noon.",
    "多喝水，多休息。",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running:
    """A server in a thread of this process."""

    def __init__(self, app):
        self.port = free_port()
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        end = time.time() + 30
        while not self.server.started and time.time() < end:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.port}"

    def post(self, body, path="/v1/rerank", **options):
        options = {"json": body, "timeout": 60, **options}
        return httpx.post(self.url + path, trust_env=False, **options)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="module")
def model(tokenizer):
    return Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny")


@pytest.fixture(scope="module")
def running(model):
    server = Running(_rerank_app(model, Limits(body_mb=0.2, documents=50, seconds=30)))
    yield server
    server.stop()


def test_scores_are_those_of_rank_in_its_order(running, model):
    answer = running.post(
        {"model": "any", "query": "fever in children", "documents": DOCUMENTS, "return_documents": True}
    )
    ranked = model.rank("fever in children", DOCUMENTS)
    results = answer.json()["results"]
    assert [r["index"] for r in results] == [r.index for r in ranked]
    assert [r["document"]["text"] for r in results] == [r.document for r in ranked]
    assert max(abs(a["relevance_score"] - b.probability) for a, b in zip(results, ranked, strict=True)) < 1e-5
    ids = model.encode([("fever in children", DOCUMENTS)])
    assert answer.json()["usage"]["total_tokens"] == sum(len(ids.full_ids(0, c)) for c in range(4))
    raw = running.post({"query": "fever in children", "documents": DOCUMENTS, "raw_scores": True, "top_n": 2}).json()
    assert len(raw["results"]) == 2 and "document" not in raw["results"][0]
    assert abs(raw["results"][0]["relevance_score"] - ranked[0].score) < 1e-5


def test_the_client_of_cohere_speaks_to_it(running, model):
    cohere = pytest.importorskip("cohere")
    plain = httpx.Client(trust_env=False)
    for kind in (cohere.ClientV2, cohere.Client):
        client = kind(api_key="none", base_url=running.url, httpx_client=plain)
        answer = client.rerank(model="tiny", query="糖尿病", documents=DOCUMENTS, top_n=3)
        assert [r.index for r in answer.results] == [r.index for r in model.rank("糖尿病", DOCUMENTS, top_k=3)]
    with pytest.raises(cohere.core.api_error.ApiError, match="query is empty"):
        client.rerank(model="tiny", query=" ", documents=DOCUMENTS)


def test_documents_and_query_may_be_objects_with_a_text(running):
    objects = [{"text": d} for d in DOCUMENTS]
    a, b = (running.post({"query": q, "documents": d}).json()["results"] for q, d in (("fever", DOCUMENTS), ({"text": "fever"}, objects)))  # fmt: skip
    assert a == b


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"documents": ["a"]}, 400, "query is not a text"),
        ({"query": "  ", "documents": ["a"]}, 400, "query is empty"),
        ({"query": "q"}, 400, "at least one document"),
        ({"query": "q", "documents": []}, 400, "at least one document"),
        ({"query": "q", "documents": "abc"}, 400, "not a list"),
        ({"query": "q", "documents": ["a", 7]}, 400, r"documents\[1\] is not a text"),
        ({"query": "q", "documents": ["a", {"txt": "b"}]}, 400, r"documents\[1\]"),
        ({"query": "q", "documents": ["a"] * 51}, 413, "51 documents are more than 50"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, 400, "top_n is 0"),
        ({"query": "q", "documents": ["a"], "top_n": "3"}, 400, "top_n"),
        ({"query": "q", "documents": ["a"], "top_n": True}, 400, "top_n"),
        ({"query": "q", "documents": ["a"], "return_documents": "yes"}, 400, "give true or false"),
        ({"query": "q " * 400, "documents": ["a"]}, 400, "max_length|too long"),
        (["q"], 400, "not an object"),
        ({"query": "q", "documents": ["x" * 300_000]}, 413, "larger than 0.2 MB"),
    ],
)
def test_a_wrong_request_gets_one_sentence(running, body, status, words):
    answer = running.post(body)
    assert answer.status_code == status
    message = answer.json()["message"]
    assert re.search(words, message) and "\n" not in message
    assert running.post({"query": "q", "documents": ["a"]}).status_code == 200


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"query": "q", "documents": ["\\ud800"]}', b'{"query": NaN, "documents": [1]}']
)  # fmt: skip
def test_bytes_that_are_no_request_get_one_sentence(running, raw):
    answer = running.post(None, json=None, content=raw)
    assert answer.status_code == 400 and answer.json()["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(running):
    def chunks():
        yield b'{"query": "q", "documents": ["'
        for _ in range(1000):
            yield b"x" * 1000

    try:
        status = running.post(None, json=None, content=chunks()).status_code
    except httpx.WriteError:  # the server closed the line before all was sent
        status = 413
    assert status == 413


def test_other_paths_and_methods_say_where_to_go(running):
    for answer in (running.post({}, "/v1/chat"), httpx.get(running.url + "/v1/rerank", trust_env=False)):
        assert answer.status_code in (404, 405) and "POST /v1/rerank" in answer.json()["message"]


def test_health_and_metrics(running, model):
    health = httpx.get(running.url + "/health", trust_env=False).json()
    assert health == {"status": "ok", "model": "tiny", "weights": _weights_hash(model.model)[:12]}
    running.post({"query": "q", "documents": DOCUMENTS})
    text = httpx.get(running.url + "/metrics", trust_env=False).text
    assert 'rerank_requests_total{status="200"}' in text and "rerank_seconds_bucket" in text


@pytest.mark.slow
def test_32_clients_at_once_get_their_own_answers_in_common_batches(model):
    server = Running(_rerank_app(model, Limits(gather_ms=20)))
    queries = [f"question {i} about {'发烧' if i % 2 else 'rent'}" for i in range(96)]
    groups = [(q, DOCUMENTS[: 1 + i % 4]) for i, q in enumerate(queries)]
    try:
        with ThreadPoolExecutor(32) as pool:
            answers = list(
                pool.map(lambda g: server.post({"query": g[0], "documents": g[1], "raw_scores": True}), groups)
            )
        for group, answer in zip(groups, answers, strict=True):
            got = {r["index"]: r["relevance_score"] for r in answer.json()["results"]}
            true = model.score_groups([group])[0]
            assert np.abs(np.array([got[i] for i in range(len(true))]) - true).max() < 1e-5
        text = httpx.get(server.url + "/metrics", trust_env=False).text
        batches = float(text.split("rerank_batch_count ")[1].split()[0])
        assert batches < 96  # some were scored together
    finally:
        server.stop()


class Slow:
    """A reranker that takes its time and counts the lists it scored."""

    name = "slow"

    def __init__(self, model, seconds, error="a broken part"):
        self.own, self.seconds, self.scored, self.error = model, seconds, [], error
        self.model, self.max_length = model.model, model.max_length

    def rank(self, *given):
        return self.own.rank(*given)

    def encode(self, groups):
        time.sleep(self.seconds)
        self.scored += [g.query for g in groups]
        if any("poison" in g.query for g in groups):
            raise RuntimeError(self.error)
        return self.own.encode(groups)

    def score_encoded(self, encoded, stop=None):
        return self.own.score_encoded(encoded, stop)


def test_too_slow_too_many_and_a_failing_request_spoil_nothing_else(model):
    slow = Slow(model, 0.5)
    server = Running(_rerank_app(slow, Limits(seconds=1.2, waiting=12, batch=1, gather_ms=0)))
    try:
        assert server.post({"query": "poison", "documents": ["a"]}).json()["message"].endswith("(RuntimeError).")
        with ThreadPoolExecutor(8) as pool:
            ask = lambda i: server.post({"query": f"q{i}", "documents": DOCUMENTS}).status_code  # noqa: E731
            statuses = list(pool.map(ask, range(8)))
        assert 200 in statuses and 503 in statuses and set(statuses) <= {200, 503, 504}
        time.sleep(1.5)  # what was given up is not scored later
        assert len(slow.scored) <= 2 + statuses.count(200) + statuses.count(504)
        assert server.post({"query": "again", "documents": ["a"]}).status_code == 200
    finally:
        server.stop()


def test_one_bad_request_in_a_batch_fails_alone(model):
    server = Running(_rerank_app(Slow(model, 0.2), Limits(gather_ms=300)))
    try:
        with ThreadPoolExecutor(4) as pool:
            ask = lambda q: server.post({"query": q, "documents": ["a"]}).status_code  # noqa: E731
            assert list(pool.map(ask, ["one", "poison", "two", "q " * 400])) == [200, 500, 200, 400]
    finally:
        server.stop()


def test_long_documents_by_their_best_piece(model):
    server = Running(_rerank_app(model, long_documents="passages"))
    documents = ["Filler about nothing. " * 100 + "Drink water against fever.", "The bus leaves at noon."]
    try:
        answer = server.post({"query": "fever", "documents": documents, "raw_scores": True}).json()["results"]
    finally:
        server.stop()
    ranked = rank_long(model, "fever", documents)
    assert [(r["index"], r["place"]) for r in answer] == [(r.index, [r.start, r.end]) for r in ranked]
    assert max(abs(a["relevance_score"] - b.score) for a, b in zip(answer, ranked, strict=True)) < 1e-5


START = """
import sys, time
from course_utils.model import Reranker
from course_utils.ship import serve
reranker = Reranker.load("nano", device="cpu", quiet=True)
encode = reranker.encode
def slow(groups):
    time.sleep(float(sys.argv[2]))
    return encode(groups)
reranker.encode = slow
serve(reranker, port=int(sys.argv[1]))
"""


def started(port, seconds):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(port), str(seconds)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert "/v1/rerank" in process.stdout.readline()
    end = time.time() + 60
    while time.time() < end:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.mark.slow
def test_killed_in_the_middle_it_starts_again_on_the_same_port():
    port, answers = free_port(), []
    url = f"http://127.0.0.1:{port}/v1/rerank"

    def ask():
        try:
            answers.append(
                httpx.post(url, json={"query": "q", "documents": ["a"]}, timeout=60, trust_env=False).status_code
            )
        except httpx.TransportError as error:
            answers.append(type(error).__name__)

    process = started(port, 3)
    client = threading.Thread(target=ask)
    client.start()
    time.sleep(1)
    process.kill()
    client.join(30)
    process.wait()
    assert len(answers) == 1 and answers[0] != 200  # an error at once, no waiting for a dead server
    process = started(port, 2)
    client = threading.Thread(target=ask)
    client.start()
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    client.join(30)
    assert answers[1] == 200  # what was being scored is still answered
    assert process.wait(30) in (0, -signal.SIGTERM, 143)


def test_a_taken_port_and_a_wrong_choice_are_refused_in_a_sentence(model):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(InputError, match="cannot be used"):
            serve(model, port=s.getsockname()[1])
    with pytest.raises(InputError, match=r"cut.*passages"):
        _rerank_app(model, long_documents="both")


def test_json_is_utf8_and_finite(running):
    raw = running.post({"query": "糖尿病", "documents": DOCUMENTS, "return_documents": True}).content
    assert "多喝水" in raw.decode("utf-8") and json.loads(raw)


def test_in_the_background_it_answers_and_is_stopped_again(model, capsys):
    port = free_port()
    stop = serve(model, port=port, background=True)
    answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json()
    assert (answer["status"], answer["model"]) == ("ok", "tiny") and f":{port}/v1/rerank" in capsys.readouterr().out
    stop()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    serve(model, port=port, background=True)()  # the port is free again
