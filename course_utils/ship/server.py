"""A rerank server on FastAPI: POST /v1/rerank as the clients of Cohere, Jina and vLLM speak it, /health and /metrics.

/health says ok, or busy or down with 503. Requests that arrive within a few milliseconds are scored as one batch, by one
thread that alone touches the model.
Needs the extra: ``pip install "reranker-course[serve]"``. Shapes: docs.cohere.com/reference/rerank,
api.jina.ai/docs (rerank), docs.vllm.ai (Jina- and Cohere-compatible rerank API).
"""

import asyncio
import json
import logging
import math
import socket
import threading
import time
import uuid
from contextlib import suppress

import numpy as np

from course_utils.data.long_documents import _check_way
from course_utils.errors import InputError, _out_of_memory
from course_utils.language import _
from course_utils.model import prompt, sigmoid
from course_utils.model.checkpoint import _weights_hash
from course_utils.ship.batching import Limits, _Batcher, _Metrics, _Refused

_GLANCE = 0.25  # seconds between two looks whether the client is still there


def _rerank_app(reranker, limits=None, long_documents="cut"):
    """Return the FastAPI application; ``serve`` runs it.

    Args:
        reranker: the Reranker; nobody else may use it meanwhile.
        limits: Limits.
        long_documents: "cut" at ``max_length``, or "passages": the best of overlapping pieces, with its place.

    Raises:
        InputError: FastAPI is not installed, or an unknown choice.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import JSONResponse, PlainTextResponse
        from starlette.exceptions import HTTPException

        metrics = _Metrics()
    except ImportError as error:
        raise InputError('The server needs {name}: pip install "reranker-course[serve]".', name=error.name) from None
    _check_way(long_documents)
    limits = limits or Limits()
    reranker.rank("probe", ["probe"])  # a model that gives no numbers is refused here and not at the first request
    batcher, weights = _Batcher(reranker, limits, long_documents, metrics), _weights_hash(reranker.model)[:12]
    app = FastAPI(title="Reranker", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.batcher = batcher

    async def rerank(request: Request):
        started, status = time.perf_counter(), 500
        try:
            asked = _parsed(await _body(request, limits), limits)
            job = batcher.put(asked["query"], asked["documents"], asked["instruction"])
            result = await _wait(request, job, limits)
            status = 200
            metrics.documents.inc(len(asked["documents"]))
            return JSONResponse(_answer(reranker, asked, *result))
        except _Refused as error:
            status = error.status
            return _error(status, error)
        except InputError as error:
            status = 400
            return _error(status, error)
        except Exception as error:
            status, text = _failed(error)
            return _error(status, text)
        finally:
            metrics.requests.labels(str(status)).inc()
            metrics.seconds.observe(time.perf_counter() - started)

    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        app.post(path)(rerank)

    @app.get("/health")
    async def health():
        busy = batcher.oldest() > limits.seconds  # what is scored takes longer than anybody waits
        state = "down" if not batcher.thread.is_alive() else "busy" if busy else "ok"
        answer = {"status": state, "model": reranker.name, "weights": weights}
        return JSONResponse(answer, 200 if state == "ok" else 503)

    @app.get("/metrics")
    async def numbers():
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(HTTPException)
    async def other(request, error):
        what = f"{request.method} {request.url.path}: {error.detail}"
        return _error(error.status_code, _("{what}; use POST /v1/rerank.").format(what=what))

    return app


def serve(reranker, host="127.0.0.1", port=8000, limits=None, long_documents="cut", background=False):
    """Answer rerank requests until the process is stopped; requests that have arrived at a SIGTERM are still answered.

    Args:
        reranker: the Reranker.
        host: address; the default can be reached from this machine alone. There is no password: put a proxy before it.
        port: TCP port; 0 takes a free one, which is printed.
        limits: Limits.
        long_documents: see ``_rerank_app``.
        background: answer from a thread of this process instead, as a notebook needs it.

    Returns:
        None; with ``background`` a function without arguments that stops the server and waits until it has ended.

    Raises:
        InputError: FastAPI or uvicorn is not installed, or the port is taken.
    """
    limits = limits or Limits()
    app = _rerank_app(reranker, limits, long_documents)
    try:
        import uvicorn
    except ImportError:
        raise InputError('The server needs uvicorn: pip install "reranker-course[serve]".') from None
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise InputError("Port {port} on {host} cannot be used: {error}; choose another.", port=port, host=host, error=error) from None  # fmt: skip
    where, port = f"[{host}]" if ":" in host else host, listening.getsockname()[1]
    address = f"http://{where}:{port}/v1/rerank"
    print(_("Serving {name} on {address}").format(name=reranker.name, address=address), flush=True)
    patience = max(30, math.ceil(limits.seconds) + 1)  # who waits for an answer at a SIGTERM still gets it
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=patience))
    if background:
        return _in_thread(server, listening)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
        server.run([listening])
    return None


def _in_thread(server, listening):
    """Start a uvicorn server in a thread, wait until it answers, return a function that stops it."""
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise InputError("The server ended while it started; the lines above say why.")
        time.sleep(0.01)

    def stop():
        server.should_exit = True
        thread.join()

    return stop


def _failed(error):
    """Return (status, sentence) for an exception that nobody expected; its traceback goes to standard error."""
    logging.getLogger(__name__).error(_("A request could not be scored."), exc_info=error)
    if _out_of_memory(error):
        return 503, _("The server is out of memory; send fewer or shorter documents at once.")
    return 500, _("The server could not score this request ({kind}).").format(kind=type(error).__name__)


def _error(status, message):
    from fastapi.responses import JSONResponse

    return JSONResponse({"message": str(message)}, status, {"Retry-After": "1"} if status == 503 else None)


async def _body(request, limits):
    # Read at most the limit, whatever the header says; a client that stops sending is cut off.
    from starlette.requests import ClientDisconnect

    most, body = int(limits.body_mb * 1e6), bytearray()
    too_large = _Refused(413, "The request is larger than {mb:g} MB; send fewer documents at once.", mb=limits.body_mb)
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise _Refused(408, "The request did not arrive within {seconds:g} s.", seconds=limits.seconds) from None
    except ClientDisconnect:
        raise _Refused(499, "The client went away.") from None
    return bytes(body)


async def _wait(request, job, limits):
    # When nobody waits any more, what has not begun is dropped; what has stops at its next batch, unless somebody waits for
    # a request that is scored with it.
    answer, end = asyncio.wrap_future(job.done), time.monotonic() + limits.seconds
    try:
        while not answer.done():
            if (left := end - time.monotonic()) <= 0:
                raise _Refused(504, "No answer within {seconds:g} s; send fewer documents at once.", seconds=limits.seconds)  # fmt: skip
            await asyncio.wait([answer], timeout=min(left, _GLANCE))
            if not answer.done() and await request.is_disconnected():
                raise _Refused(499, "The client went away.")
        return answer.result()
    finally:
        job.given_up = not answer.done()
        answer.cancel()


def _parsed(body, limits):
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, "The body is not JSON: {why}.", why=str(error)[:100]) from None
    if not isinstance(asked, dict):
        wanted = '{"query": "...", "documents": ["...", ...]}'
        raise _Refused(400, "The body is not an object; send {wanted}.", wanted=wanted)
    query = _text(asked.get("query"), "query")
    if not query.strip():
        raise _Refused(400, "query is empty; write what you are looking for.")
    documents = asked.get("documents")
    if not isinstance(documents, list) or not documents:
        raise _Refused(400, "documents is not a list with at least one document.")
    if len(documents) > limits.documents:
        raise _Refused(
            413, "{n} documents are more than {most}; send them in parts.", n=len(documents), most=limits.documents
        )
    texts = [_text(d, f"documents[{i}]") for i, d in enumerate(documents)]
    told = asked.get("instruction")
    if told is not None and not isinstance(told, str):
        raise _Refused(400, "instruction is {value}; give one English sentence, or leave it out.", value=json.dumps(told)[:40])  # fmt: skip
    if told:
        prompt._check_prompt(_text(told, "instruction"), 32)
    top_n = asked.get("top_k") if asked.get("top_n") is None else asked["top_n"]
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1):
        raise _Refused(
            400, "top_n is {value}; give a whole number from 1 on, or leave it out.", value=json.dumps(top_n)[:40]
        )
    flags = {key: asked.get(key) or False for key in ("return_documents", "raw_scores")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise _Refused(400, "{key} is {value}; give true or false.", key=key, value=json.dumps(value)[:40])
    return {"query": query, "documents": texts, "instruction": told or "", "top_n": top_n, **flags}


def _text(value, name):
    value = value.get("text") if isinstance(value, dict) else value
    if not isinstance(value, str):
        raise _Refused(400, '{name} is not a text; give a string or {{"text": "..."}}.', name=name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refused(400, "{name} holds half a character (a lone surrogate).", name=name) from None
    return value


def _answer(reranker, asked, scores, places, tokens, cut):
    results = []
    for i in np.argsort(-scores, kind="stable")[: asked["top_n"]].tolist():
        value = float(scores[i]) if asked["raw_scores"] else float(sigmoid(scores[i]))
        result = {"index": i, "relevance_score": value}
        if asked["return_documents"]:
            result["document"] = {"text": asked["documents"][i]}
        if cut[i]:
            result["truncated"] = True  # what stood after max_length counts for nothing
        if places is not None:
            result["place"] = list(places[i])  # characters from, to: the piece that was best
        results.append(result)
    meta = {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}}
    answer = {"id": str(uuid.uuid4()), "model": reranker.name, "results": results, "meta": meta}
    if tokens is not None:  # pieces of long documents are not counted
        answer["usage"] = {"total_tokens": tokens, "prompt_tokens": tokens}
    return answer
