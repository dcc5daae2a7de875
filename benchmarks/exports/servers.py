"""Exports behind a server, asked over HTTP as any client would: Infinity and vLLM."""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.exports.here import INSTRUCTION
from benchmarks.exports.other_python import other_version
from course_utils.ship.folders import wrap_pair
from course_utils.ship.serving import serving_lines

HOST = ["--host", "127.0.0.1"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(port, path, body):
    """Send one request as any HTTP client would and return the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def ready(port):
    """Return whether the server says that its model is loaded; all of them know the path /health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def serve(command, port, environment, log, ask):
    """Start a server, wait until it is ready, return ``ask()``, stop the server."""
    with Path(log).open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.time() + 1200
        while not ready(port):
            if process.poll() is not None or time.time() > deadline:
                last = (Path(log).read_text(encoding="utf-8", errors="replace").strip() or "empty").splitlines()[-1]
                raise RuntimeError(f"{command[0]} did not start; see {log}, which ends: {last}")
            time.sleep(1)
        return ask()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def relevance_scores(answer):
    return np.array([r["relevance_score"] for r in sorted(answer["results"], key=lambda r: r["index"])])


def by_query(pairs):
    """Return {query: indices of its pairs}; a rerank request carries one query."""
    out = {}
    for i, (query, _) in enumerate(pairs):
        out.setdefault(query, []).append(i)
    return out


def ask_vllm(port, model, pairs):
    scores = np.empty(len(pairs))
    for query, own in by_query(pairs).items():
        body = {"model": model, "query": query, "documents": [pairs[i][1] for i in own], "use_activation": False}
        scores[own] = relevance_scores(post(port, "/rerank", body))
    return scores


def ask_infinity(port, pairs):
    scores = np.empty(len(pairs))
    for own in by_query(pairs).values():
        left, right = zip(*[wrap_pair(*pairs[i], INSTRUCTION) for i in own], strict=True)
        body = {"query": left[0], "documents": list(right), "raw_scores": True}
        scores[own] = relevance_scores(post(port, "/rerank", body))
    return scores


def start_line(text):
    """Return the words of the command in an entry of ``serving_lines``, without the comments below it."""
    return shlex.split(text.split("\n#")[0].replace("\\\n", " "))


def infinity_rows(python, folders, pairs, root):
    """Return [(target, folder and route, version, scores)] of Infinity from another Python."""
    port = free_port()
    command = start_line(serving_lines(str(folders["causal"]), str(folders["label"]), port)["Infinity"])
    command = [str(Path(python).parent / command[0]), *command[1:], *HOST]
    settings = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    got = serve(command, port, settings, root / "infinity.log", lambda: ask_infinity(port, pairs))
    return [("Infinity over HTTP", "one label, `wrap_pair`", other_version(python, "infinity-emb"), got)]


def vllm_rows(python, folders, pairs, root):
    """Return the same of vLLM: in fp32, with the one-label folder, and with the dtype that it takes by itself."""
    port = free_port()
    lines = serving_lines(str(folders["causal"]), str(folders["label"]), port)
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    settings |= {"VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    # The CPU build is named vllm-cpu and its `vllm` command looks for a package vllm: call the module instead.
    module = [python, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    rows, exact = [], ["--dtype", "float32"]
    for name, folder, dtype in (("vLLM", "causal", exact), ("vLLM, one label", "label", exact), ("vLLM", "causal", [])):
        path = str(folders[folder])
        command = [*module, *start_line(lines[name])[2:], *HOST, *dtype]
        got = serve(command, port, settings, root / "vllm.log", lambda p=path: ask_vllm(port, p, pairs))
        title = "vLLM over HTTP" if dtype else "the same without `--dtype float32`: vLLM takes fp16"
        rows.append((title, folder.replace("label", "one label"), other_version(python, "vllm-cpu"), got))
    return rows
