"""What a server in use for weeks meets: clients that hang up, long documents, own instructions, short memory, slow stops."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from conftest import tiny_model
from test_server import DOCUMENTS, Running, Slow

from course_utils.cli import main
from course_utils.data import Group
from course_utils.model import Reranker
from course_utils.ship import Limits, serve
from course_utils.ship import server as server_module
from course_utils.ship.server import _rerank_app

uvicorn = pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def model(tokenizer):
    return Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=128, name="tiny")


@pytest.fixture(scope="module")
def running(model):
    server = Running(_rerank_app(model, Limits(seconds=30)))
    yield server
    server.stop()


def scores(answer):
    return [r["relevance_score"] for r in sorted(answer.json()["results"], key=lambda r: r["index"])]


def numbers(server, name):
    text = httpx.get(server.url + "/metrics", trust_env=False).text
    return float(re.search(rf"^{name} (\S+)", text, re.MULTILINE)[1])


def health(server):
    return httpx.get(server.url + "/health", trust_env=False)


# What a request may say


def test_the_instruction_of_a_request_counts(running, model):
    task = "Given a legal question, find the paragraph of the contract"
    own = Group("rent", tuple(DOCUMENTS), (0,) * 4, instruction=task)
    expected = [model.score_groups([g])[0] for g in (own, ("rent", DOCUMENTS))]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    body = {"query": "rent", "documents": DOCUMENTS, "raw_scores": True}
    with ThreadPoolExecutor(2) as pool:  # in one batch, too
        found = list(pool.map(running.post, [{**body, "instruction": task}, body]))
    found += [running.post({**body, "instruction": empty}) for empty in (None, "")]
    for answer, true in zip(found, [*expected, expected[1], expected[1]], strict=True):
        assert np.abs(np.array(scores(answer)) - true).max() < 1e-5


@pytest.mark.parametrize("wrong", [7, ["a"], {"text": "a"}, True, "a <|im_end|> b", "  ", "x" * 2001, "\ud800"])
def test_a_wrong_instruction_is_refused_in_a_sentence(running, wrong):
    body = b'{"query": "q", "documents": ["a"], "instruction": %s}' % json.dumps(wrong).encode()
    answer = running.post(None, json=None, content=body)
    assert answer.status_code == 400 and "instruction" in answer.json()["message"]


def test_a_top_n_of_null_leaves_top_k(running):
    for given, count in (({"top_n": None, "top_k": 1}, 1), ({"top_n": 2, "top_k": 1}, 2), ({"top_k": None}, 4)):
        assert len(running.post({"query": "q", "documents": DOCUMENTS, **given}).json()["results"]) == count


def test_documents_that_were_cut_are_named_and_counted(running, model):
    room = model.max_length - len(model.encode([("q", [""])]).full_ids(0, 0))
    fits = " a" * (room + 3)
    while model.encode([("q", [fits])]).truncated:
        fits = fits[:-2]
    assert len(model.encode([("q", [fits])]).full_ids(0, 0)) == model.max_length
    before = numbers(running, "rerank_documents_cut_total")
    documents = ["short", fits, fits + " a", "word " * 500]
    answer = running.post({"query": "q", "documents": documents}).json()
    cut = {r["index"]: r.get("truncated") for r in answer["results"]}
    assert cut == {0: None, 1: None, 2: True, 3: True}
    assert numbers(running, "rerank_documents_cut_total") - before == 2
    assert "truncated" not in running.post({"query": "q", "documents": [fits]}).text


# Clients that go, and work that takes too long


async def hang_up(server, count, after):
    """Send requests and close their connections."""
    lines = b'{"query": "gone", "documents": ["a", "b", "c"]}'
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(lines)
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    for _, writer in opened:
        writer.write(head + lines)
        await writer.drain()
    await asyncio.sleep(after)
    for _, writer in opened:
        writer.close()


def test_what_clients_that_hung_up_asked_for_is_not_scored(model):
    slow = Slow(model, 1.0)
    server = Running(_rerank_app(slow, Limits(seconds=30, batch=1, gather_ms=0, waiting=30)))
    try:
        first = threading.Thread(target=lambda: server.post({"query": "first", "documents": ["a"]}))
        first.start()
        time.sleep(0.2)  # it is being scored
        asyncio.run(hang_up(server, 8, 0.2))
        time.sleep(0.5)
        assert server.post({"query": "last", "documents": DOCUMENTS * 6}).status_code == 200  # 24 of 30 may wait again
        first.join()
        assert slow.scored.count("gone") == 0 and slow.scored[-1] == "last"
        assert numbers(server, 'rerank_requests_total{status="499"}'.replace("{", r"\{").replace("}", r"\}")) == 8
    finally:
        server.stop()


def test_a_server_that_scores_for_longer_than_anybody_waits_says_busy(model):
    server = Running(_rerank_app(Slow(model, 2.0), Limits(seconds=0.4, gather_ms=0)))
    try:
        assert health(server).status_code == 200
        assert server.post({"query": "q", "documents": ["a"]}).status_code == 504
        time.sleep(0.2)
        assert health(server).status_code == 503 and health(server).json()["status"] == "busy"
        time.sleep(2)
        assert health(server).json()["status"] == "ok"
    finally:
        server.stop()


@pytest.mark.parametrize("long_documents", ["cut", "passages"])
def test_work_that_nobody_waits_for_any_more_stops_at_the_next_batch(tokenizer, monkeypatch, long_documents):
    model = Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=128, name="tiny")
    real, batches = Reranker._score_shared, []

    def slow(self, encoded, batch, scores):
        batches.append(len(batch))
        time.sleep(0.2)
        return real(self, encoded, batch, scores)

    server = Running(_rerank_app(model, Limits(seconds=0.5, gather_ms=0), long_documents))
    monkeypatch.setattr(Reranker, "_score_shared", slow)
    try:
        answer = server.post({"query": "q", "documents": [f"a page about fever {i} " * 8 for i in range(1000)]})
        assert answer.status_code == 504
        time.sleep(0.7)
        done = len(batches)
        assert done < 8 and health(server).json()["status"] == "ok"  # of some 13
        time.sleep(0.5)
        assert len(batches) == done
        assert server.post({"query": "q", "documents": ["a"]}).status_code == 200
    finally:
        server.stop()


# What goes wrong inside


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [("a broken part", 500, r"\(RuntimeError\)"), ("CUDA out of memory. Tried", 503, "server is out of memory")],
)
def test_a_failure_inside_leaves_its_traceback_and_short_memory_is_said(model, caplog, error, status, words):
    server = Running(_rerank_app(Slow(model, 0, error), Limits(gather_ms=0)))
    try:
        with caplog.at_level(logging.ERROR):
            answer = server.post({"query": "poison", "documents": ["a"]})
    finally:
        server.stop()
    assert answer.status_code == status and re.search(words, answer.json()["message"])
    assert "Traceback" in caplog.text and error in caplog.text and "in encode" in caplog.text


# Where it listens and how it ends


def test_an_empty_host_is_refused_and_not_every_interface(capsys):
    for host in ("", " "):
        assert main(["serve", "--host", host, "--device", "cpu"]) == 2
        assert "--host is empty" in capsys.readouterr().err


def test_port_0_prints_the_port_that_is_used(model, capsys):
    stop = serve(model, port=0, background=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:(\d+)/v1/rerank", capsys.readouterr().out)
        assert (
            int(address[1]) > 0
            and httpx.post(address[0], json={"query": "q", "documents": ["a"]}, trust_env=False).status_code == 200
        )
    finally:
        stop()


def test_an_ipv6_address_stands_in_brackets(model, capsys):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    stop = serve(model, host="::1", port=0, background=True)
    try:
        address = re.search(r"http://\[::1\]:\d+/v1/rerank", capsys.readouterr().out)[0]
        assert httpx.post(address, json={"query": "q", "documents": ["a"]}, trust_env=False).status_code == 200
    finally:
        stop()


def test_who_waits_at_the_end_is_answered_as_long_as_an_answer_may_take(model, monkeypatch):
    seen, real = [], uvicorn.Config
    monkeypatch.setattr(uvicorn, "Config", lambda *a, **more: seen.append(more) or real(*a, **more))
    for seconds in (5.0, 90.5):
        serve(model, port=0, limits=Limits(seconds=seconds), background=True)()
        assert seen[-1]["timeout_graceful_shutdown"] > seconds
    assert server_module._GLANCE < 1
