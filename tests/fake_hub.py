"""A small local stand-in for the model hub: its HTTP answers, good and bad, over 127.0.0.1.

It knows the routes that a download uses, as huggingface_hub 2.4 calls them:
``/api/models/OWNER/NAME[/revision/REVISION]?blobs=true`` (commit, file names, sizes, checksums),
``/api/models/OWNER/NAME/tree/COMMIT`` (the same, for ``snapshot_download``) and ``/OWNER/NAME/resolve/COMMIT/FILE`` (HEAD:
size and checksum; GET: content, with Range). ``FAULTS`` lists what can go wrong, for the tests and for
benchmarks/hub_failures.py.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

NAME = "course/tiny"
COMMIT = "1234567890abcdef1234567890abcdef12345678"
LARGE = ".safetensors"


@dataclass
class FakeHub:
    """What the server holds, how it misbehaves, and what it was asked.

    Attributes:
        folder: files of the one repository, NAME at COMMIT.
        status: answer the listing with this HTTP status, if set.
        file_status: answer each file with this HTTP status, if set.
        headers: sent with such a status.
        good_after: requests after which the statuses above end.
        cut: close the connection after this share of a weights file.
        stall: seconds without a byte at that place instead of closing.
        slow: seconds before the listing is answered.
        mute: seconds before the second listing (the tree) is answered.
        dumb: seconds before the size of a file is told.
        ranges: whether Range is honoured.
        page: body to send for everything with status 200, as the login page of a network does.
        flip: change the last byte of each weights file.
        redirect: send weights by way of another host name, as the hub's storage does.
        extra: names added to the listing.
        log: (path, headers with names in lower case) of each request.
        sent: bytes sent of weights files.
    """

    folder: Path
    status: int | None = None
    file_status: int | None = None
    headers: dict = field(default_factory=dict)
    good_after: int | None = None
    cut: float | None = None
    stall: float = 0
    slow: float = 0
    mute: float = 0
    dumb: float = 0
    ranges: bool = True
    page: bytes | None = None
    flip: bool = False
    redirect: bool = False
    extra: tuple = ()
    log: list = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def heal(self):
        """Forget the faults and the log."""
        kept = FakeHub(self.folder, url=self.url)
        self.__dict__.update(kept.__dict__)

    def note(self, request):
        """Put a request into the log, its method as the header ":method"."""
        self.log.append(
            (request.path, {":method": request.command} | {k.lower(): v for k, v in request.headers.items()})
        )

    def asked(self, text):
        """Return the logged requests whose path holds ``text``."""
        return [entry for entry in self.log if text in entry[0]]

    def listing(self):
        """Return the answer of the listing route as the hub gives it."""
        siblings = []
        for path in sorted(self.folder.iterdir()):
            siblings.append(listed(path, path.stat().st_mtime_ns))
        siblings += [{"rfilename": name, "size": 1, "blobId": "0" * 40} for name in self.extra]
        return {"id": NAME, "modelId": NAME, "sha": COMMIT, "private": False, "gated": False, "siblings": siblings}


@cache
def listed(path, changed):
    """Return the entry of a file in the listing; ``changed`` is its time of change, so that each file is read once."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"rfilename": path.name, "size": len(content), "blobId": git}
    if path.suffix == LARGE:
        sha = hashlib.sha256(content).hexdigest()
        entry |= {"blobId": "0" * 40, "lfs": {"sha256": sha, "size": len(content), "pointerSize": 134}}
    return entry


def as_tree(entry):
    """Return an entry of the listing as the tree route gives it."""
    lfs = {"oid": entry["lfs"]["sha256"], "size": entry["size"], "pointerSize": 134} if "lfs" in entry else None
    found = {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"]}
    return found | ({"lfs": lfs} if lfs else {})


@contextmanager
def serve(folder):
    """Run a FakeHub over ``folder`` in a thread; yield it."""
    hub = FakeHub(Path(folder))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", headers=()):
            self.send_response(status)
            for key, value in dict(headers).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            if not re.search(r"/models/|/resolve/", self.path):  # what the library asks for itself
                return self.answer(404, b"{}")
            hub.note(self)
            path = unquote(urlsplit(self.path).path)
            bad = hub.good_after is None or len(hub.log) <= hub.good_after
            try:
                if hub.page is not None:
                    self.answer(200, hub.page, {"Content-Type": "text/html"})
                elif re.fullmatch(rf"/api/models/{NAME}/tree/{COMMIT}", path):
                    self.send_listing(NAME, COMMIT, bad, tree=True)
                elif found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)(?:/revision/(.+))?", path):
                    self.send_listing(*found.groups(), bad)
                elif found := re.fullmatch(rf"(?:/cdn)?/{NAME}/resolve/({COMMIT})/(.+)", path):
                    self.send_file(found.group(2), bad)
                else:
                    self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            except (BrokenPipeError, ConnectionResetError):
                pass
            return None

        def do_HEAD(self):
            hub.note(self)
            bad = hub.good_after is None or len(hub.log) <= hub.good_after
            time.sleep(hub.dumb)
            if hub.file_status and bad:
                return self.answer(hub.file_status, b"", hub.headers)
            name = unquote(urlsplit(self.path).path).rsplit("/", 1)[1]
            entry = next(e for e in hub.listing()["siblings"] if e["rfilename"] == name)
            etag = f'"{entry.get("lfs", {}).get("sha256", entry["blobId"])}"'
            away = hub.redirect and name.endswith(LARGE)
            try:
                self.send_response(302 if away else 200)
                self.send_header("X-Repo-Commit", COMMIT)
                if away:
                    port = urlsplit(hub.url).port
                    self.send_header("Location", f"http://localhost:{port}/cdn{self.path}")
                    self.send_header("X-Linked-ETag", etag)
                    self.send_header("X-Linked-Size", str(entry["size"]))
                self.send_header("ETag", etag)
                self.send_header("Content-Length", "0" if away else str(entry["size"]))
                self.end_headers()
            except (BrokenPipeError, ConnectionResetError):
                pass
            return None

        def send_listing(self, name, revision, bad, tree=False):
            time.sleep(hub.mute if tree else hub.slow)
            if hub.status and bad:
                self.answer(hub.status, b"{}", hub.headers)
            elif name != NAME:  # the hub does not tell a missing repository from a private one
                self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            elif revision not in (None, "main", COMMIT):
                message = f"Invalid rev id: {revision}"
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": message})
            else:
                listing = hub.listing()
                if tree:
                    listing = [as_tree(entry) for entry in listing["siblings"]]
                self.answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

        def send_file(self, name, bad):
            path, large = hub.folder / name, name.endswith(LARGE)
            if hub.file_status and bad:
                return self.answer(hub.file_status, b"{}", hub.headers)
            if hub.redirect and large and not self.path.startswith("/cdn"):
                port = urlsplit(hub.url).port
                return self.answer(302, b"", {"Location": f"http://localhost:{port}/cdn{self.path}"})
            content = path.read_bytes()
            if hub.flip and large:
                content = content[:-1] + bytes([content[-1] ^ 1])
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.ranges else None
            first = int(start.group(1)) if start else 0
            body = content[first:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cut is not None and large:
                body = content[first : int(len(content) * hub.cut)]
            self.wfile.write(body)
            self.wfile.flush()
            hub.sent += len(body) if large else 0
            if hub.cut is not None and large:
                if hub.stall:
                    time.sleep(hub.stall)
                self.close_connection = True
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def point_to(url, cache, patch, timeout=1.0, sleep=None):
    """Make huggingface_hub in this process use the hub at ``url``, an own cache folder and short waits.

    Args:
        url: of the hub.
        cache: folder of downloaded models.
        patch: a pytest MonkeyPatch.
        timeout: seconds without a byte.
        sleep: called with the seconds between tries in the place of time.sleep, if given.
    """
    from huggingface_hub import close_session, constants, file_download
    from huggingface_hub.utils import _http

    from course_utils.model import hub

    for key in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        patch.delenv(key, raising=False)
    patch.delenv("HF_HUB_DOWNLOAD_TIMEOUT", raising=False)
    close_session()
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(Path(cache) / "no-token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(hub, "TIMEOUT", timeout)
    if sleep:
        for module in (file_download, _http):
            patch.setattr(module, "time", SimpleNamespace(sleep=sleep))


def state(cache, folder):
    """Return in words what lies in ``cache`` after a call: whole files under their names, and parts."""
    store = Path(cache) / f"models--{NAME.replace('/', '--')}"
    named = sorted(p for p in store.glob("snapshots/*/*"))
    broken = [p.name for p in named if p.read_bytes() != (Path(folder) / p.name).read_bytes()]
    parts = sorted(p.stat().st_size for p in store.glob("blobs/*.incomplete"))
    words = []
    if named:
        all_here = {p.name for p in named} == {p.name for p in Path(folder).iterdir()}
        words.append("the whole model" if all_here else f"{len(named)} small files whole")
    words += [f"{size / 1024:.0f} KB of the weights as .incomplete" for size in parts if size]
    words += [f"BROKEN: {name}" for name in broken]
    return "; ".join(words) or "nothing"


def closed_port():
    """Return a URL at which nothing listens."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def no_network(patch):
    """Point to a port at which nothing listens."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", closed_port())


def offline(patch):
    """Set what HF_HUB_OFFLINE=1 sets."""
    from huggingface_hub import constants

    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def small_disk(patch):
    """Let the disk have 50 MB left."""
    import shutil

    patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50 * 2**20))


def full_disk(patch):
    """Let the disk be full when the first byte of a file is written."""
    import errno
    import os

    from huggingface_hub import file_download

    def receive(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(file_download, "http_get", receive)


def file_for_cache(patch):
    """Let a file stand where the cache folder should be (a folder that cannot be written to)."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: what happens.
        answers: attributes of FakeHub.
        says: what the message must hold.
        keeps: what must lie in the cache afterwards.
        offline_way: whether the message tells how to go on without network.
        here: what is wrong on this machine, a function of a MonkeyPatch.
        revision: what is asked for.
        repository: whose name is asked for.
    """

    name: str
    answers: dict = field(default_factory=dict)
    says: str = ""
    keeps: str = "nothing"
    offline_way: bool = True
    here: Callable | None = None
    revision: str | None = None
    repository: str = NAME


SMALL = "small files whole"
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model course/tiny is restricted."}
BAD_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
FAULTS = [
    Fault(
        "401: no such repository, or private", {}, "no public repository", offline_way=False, repository="course/tyni"
    ),
    Fault(
        "401: a token of this machine is refused",
        {"status": 401, "headers": BAD_TOKEN},
        "access token",
        "nothing",
        False,
    ),
    Fault(
        "404: no such repository",
        {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}},
        "no public",
        "nothing",
        False,
    ),
    Fault("404: no such revision", {}, 'no revision "v9"', offline_way=False, revision="v9"),
    Fault("403: gated, at the listing", {"status": 403, "headers": GATED}, "is gated", "nothing", False),
    Fault("401: gated, at the files", {"file_status": 401, "headers": GATED}, "is gated", "nothing", False),
    Fault("403: a proxy refuses", {"status": 403}, "(403)"),
    Fault("429: busy, wait 300 s", {"status": 429, "headers": {"Retry-After": "300"}}, "again in 300 s"),
    Fault("429: busy, no time told", {"status": 429}, "in some minutes"),
    Fault(
        "429: busy at the files",
        {"file_status": 429, "headers": {"RateLimit": '"resolvers";r=0;t=55'}},
        "again in 55 s",
    ),
    Fault("500: the hub is broken", {"status": 500}, "answers 500"),
    Fault("503: broken at the files", {"file_status": 503}, "answers 503"),
    Fault("connection cut in the weights", {"cut": 0.6}, "cut off", SMALL),
    Fault("cut, and Range is not honoured", {"cut": 0.6, "ranges": False}, "cut off", SMALL),
    Fault("no byte for longer than the timeout", {"cut": 0.5, "stall": 3}, "in time", SMALL),
    Fault("slow answer to the listing", {"slow": 3}, "in time"),
    Fault("slow answer to the second listing", {"mute": 3}, "in time"),
    Fault("slow answer about the files", {"dumb": 3}, "in time"),
    Fault("login page of a network", {"page": b"<html>Welcome to the hotel</html>"}, "login page"),
    Fault("an answer that is no hub's", {"page": b"[]"}, "HF_ENDPOINT", offline_way=True),
    Fault("weights changed on the way", {"flip": True}, "wrong checksum", SMALL, False),
    Fault("no network (closed port)", {}, "cannot be reached", here=no_network),
    Fault("HF_HUB_OFFLINE, never downloaded", {}, "HF_HUB_OFFLINE is set", here=offline),
    Fault("50 MB left on the disk", {}, "50 MB free", offline_way=False, here=small_disk),
    Fault("disk full while writing", {}, "No space left", offline_way=False, here=full_disk),
    Fault("cache folder cannot be written", {}, "cannot be written", offline_way=False, here=file_for_cache),
]
