"""One thread that scores what many requests bring: those that arrive together are one batch. Limits and numbers of it."""

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from course_utils.data.long_documents import score_long
from course_utils.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Attributes:
        body_mb: size of one request in megabytes.
        documents: documents of one request.
        seconds: longest wait for an answer; then 504, and the work is dropped if it has not begun.
        waiting: documents that may wait in all; beyond it 503, so that a client turns to another server.
        gather_ms: how long the first request of a batch waits for others, in milliseconds.
        batch: documents after which a batch waits for no more.
    """

    body_mb: float = 4.0
    documents: int = 1000
    seconds: float = 60.0
    waiting: int = 20000
    gather_ms: float = 4.0
    batch: int = 256


class _Refused(InputError):
    def __init__(self, status, text, **fields):
        super().__init__(text, **fields)
        self.status = status


@dataclass
class _Job:
    query: str
    documents: list
    done: Future = field(default_factory=Future)


class _Batcher:
    # The thread that scores. Jobs wait in a queue; what waits together is scored together.
    def __init__(self, reranker, limits, long_documents, metrics):
        self.reranker, self.limits, self.long_documents, self.metrics = reranker, limits, long_documents, metrics
        self.jobs, self.waiting, self.guard = queue.SimpleQueue(), 0, threading.Lock()
        self.thread = threading.Thread(target=self.run, daemon=True, name="rerank")
        self.thread.start()

    def put(self, query, documents):
        with self.guard:
            if self.waiting + len(documents) > self.limits.waiting:
                raise _Refused(503, "{count} documents wait already; try again later.", count=self.waiting)
            self.waiting += len(documents)
        job = _Job(query, documents)
        self.jobs.put(job)
        return job.done

    def gather(self):
        jobs, size = [self.jobs.get()], 0
        end = time.monotonic() + self.limits.gather_ms / 1000
        size = len(jobs[0].documents)
        while size < self.limits.batch:
            try:
                jobs.append(self.jobs.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                break
            size += len(jobs[-1].documents)
        return jobs, size

    def run(self):
        while True:
            jobs, size = self.gather()
            try:
                # What nobody waits for any more is not scored; the others can no longer be cancelled.
                live = [job for job in jobs if job.done.set_running_or_notify_cancel()]
                self.metrics.batches.observe(len(live))
                self.answer(live)
            finally:
                with self.guard:
                    self.waiting -= size

    def answer(self, jobs):
        try:
            for job, result in zip(jobs, self.score([(j.query, j.documents) for j in jobs]), strict=True):
                job.done.set_result(result)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:  # one bad request must not spoil the others
                self.answer([job])

    def score(self, groups):
        """Return (scores, places or None, tokens or None) of each group."""
        if not groups:
            return []
        if self.long_documents == "passages":
            scores, places = score_long(self.reranker, groups)
            return [(s, p, None) for s, p in zip(scores, places, strict=True)]
        encoded = self.reranker.encode(groups)
        scores = self.reranker.score_encoded(encoded)
        shared = [len(encoded.constant) + len(prefix) for prefix in encoded.prefixes]
        tokens = [sum(map(len, own)) + n * len(own) for own, n in zip(encoded.candidates, shared, strict=True)]
        return [(s, None, t) for s, t in zip(scores, tokens, strict=True)]


class _Metrics:
    def __init__(self):
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self.requests = Counter("rerank_requests", "Requests by status", ["status"], registry=self.registry)
        self.documents = Counter("rerank_documents", "Documents that were scored", registry=self.registry)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self.seconds = Histogram("rerank_seconds", "From request to answer", registry=self.registry)
        self.batches = Histogram("rerank_batch", "Requests in a batch", registry=self.registry, buckets=sizes)

    def text(self):
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()
