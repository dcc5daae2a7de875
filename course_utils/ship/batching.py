"""One thread that scores what many requests bring: those that arrive together are one batch. Limits and numbers of it."""

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

from course_utils.data.long_documents import score_long
from course_utils.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Attributes:
        body_mb: size of one request in megabytes.
        documents: documents of one request.
        seconds: longest wait for an answer; then 504; its work is dropped as far as no other request is scored with it, as
            that of a client that hung up.
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
class _Job:  # a group, as far as encoding goes
    query: str
    documents: list
    instruction: str = ""
    done: Future = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    given_up: bool = False


class _Batcher:
    # The thread that scores. Jobs wait in a queue; what waits together is scored together.
    def __init__(self, reranker, limits, long_documents, metrics):
        self.reranker, self.limits, self.long_documents, self.metrics = reranker, limits, long_documents, metrics
        self.jobs, self.waiting, self.guard = queue.SimpleQueue(), 0, threading.Lock()
        self.open = {}  # jobs without an answer, in the order in which they came
        self.thread = threading.Thread(target=self.run, daemon=True, name="rerank")
        self.thread.start()

    def put(self, query, documents, instruction=""):
        job = _Job(query, documents, instruction)
        with self.guard:
            if self.waiting + len(documents) > self.limits.waiting:
                raise _Refused(503, "{count} documents wait already; try again later.", count=self.waiting)
            self.waiting += len(documents)
            self.open[id(job)] = job
        job.done.add_done_callback(lambda _: self.close(job))
        self.jobs.put(job)
        return job

    def close(self, job):
        # Answered or given up: what is given up may lie in the queue for long, so its texts go at once.
        with self.guard:
            self.waiting -= len(job.documents)
            del self.open[id(job)]
            if job.done.cancelled():
                job.documents = []

    def oldest(self):
        """Return for how many seconds the oldest request has been without an answer."""
        with self.guard:
            return time.monotonic() - next((job.since for job in self.open.values()), time.monotonic())

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
        return jobs

    def run(self):
        while True:
            # What nobody waits for any more is not scored; the others can no longer be cancelled.
            live = [job for job in self.gather() if job.done.set_running_or_notify_cancel()]
            self.metrics.batches.observe(len(live))
            self.answer(live)

    def answer(self, jobs):
        try:
            for job, result in zip(jobs, self.score(jobs), strict=True):
                job.done.set_result(result)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:  # one bad request must not spoil the others
                self.answer([job])

    def score(self, jobs):
        """Return (scores, places or None, tokens or None, whether each document was cut) of each job."""
        if not jobs:
            return []
        stop = lambda: all(job.given_up for job in jobs)  # noqa: E731
        if self.long_documents == "passages":
            stopping = SimpleNamespace(score_groups=partial(self.reranker.score_groups, stop=stop))
            scores, places = score_long(stopping, jobs)
            self.metrics.cut.inc(scores.truncated)
            return [(s, p, None, [False] * len(s)) for s, p in zip(scores, places, strict=True)]
        encoded = self.reranker.encode(jobs)
        scores = self.reranker.score_encoded(encoded, stop)
        shared = [len(encoded.constant) + len(prefix) for prefix in encoded.prefixes]
        lengths = [[n + len(ids) for ids in own] for own, n in zip(encoded.candidates, shared, strict=True)]
        cut = [[self.is_cut(j, i, n, encoded) for i, n in enumerate(own)] for j, own in zip(jobs, lengths, strict=True)]
        self.metrics.cut.inc(encoded.truncated)
        return [(s, None, sum(own), c) for s, own, c in zip(scores, lengths, cut, strict=True)]

    def is_cut(self, job, i, length, encoded):
        # A prompt that fills all may have been cut, or fit exactly: encoded by itself it tells.
        full = encoded.truncated and length >= self.reranker.max_length
        return bool(full and self.reranker.encode([_Job(job.query, [job.documents[i]], job.instruction)]).truncated)


class _Metrics:
    def __init__(self):
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self.requests = Counter("rerank_requests", "Requests by status", ["status"], registry=self.registry)
        self.documents = Counter("rerank_documents", "Documents that were scored", registry=self.registry)
        self.cut = Counter("rerank_documents_cut", "Documents, or pieces, that were cut", registry=self.registry)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self.seconds = Histogram("rerank_seconds", "From request to answer", registry=self.registry)
        self.batches = Histogram("rerank_batch", "Requests in a batch", registry=self.registry, buckets=sizes)

    def text(self):
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()
