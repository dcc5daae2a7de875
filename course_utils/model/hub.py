"""Where a model comes from: bundled, a local folder, or the hub at a pinned revision.

The download is ``huggingface_hub.snapshot_download``. Measured with its version 2.4.0 (benchmarks/hub_failures.md): a cut
is mended within the call, with at most a chunk of 1 MB sent again; what a failed or killed call had of a file is sent
again by the next one, all of it (of the 0.6B model, 1.2 GB). Alone it waits 281 s for a hub that is busy for 55 s, as long
as a silent hub stays silent, and without end for one that cuts and ignores Range, so ``_short_waits`` bounds it; it does not
notice changed weights either, so their SHA-256 is compared here.
"""

import os
import re
import shutil
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from course_utils.errors import InputError
from course_utils.files import data_folder, sha256
from course_utils.language import _, _later
from course_utils.model.checkpoint import _check_folder, _inside, _no_weights
from course_utils.profile import HUB_MODEL

BUNDLED = {"nano": data_folder() / "models" / "nano"}

# A name can be moved to other weights at any time; a commit cannot. The checksum also covers a mirror.
REVISIONS = {HUB_MODEL: "e61197ed45024b0ed8a2d74b80b4d909f1255473"}
CHECKSUMS = {HUB_MODEL: {"model.safetensors": "27cd75a405b9c1b46b59abfd88aaa209e6fed2a1972cde9b70e7659537c5e65b"}}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
WANTED = {  # no pickle, no program, nothing in a folder of its own
    "allow_patterns": ["model*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE"],
    "ignore_patterns": ["*/*", "*\\*", "*.bin.index.json"],
}
SPARE_MB = 100  # left free after a download
# Settings of huggingface_hub, which reads them from the environment only when it is first imported. Xet has connections of
# its own, whose waits are not bounded here; what has come of a chunk is lost when the connection is cut.
MEANWHILE = {"HF_HUB_DISABLE_XET": True, "DOWNLOAD_CHUNK_SIZE": 2**20}
TIMEOUT = 4  # seconds without a byte, for each try, unless HF_HUB_DOWNLOAD_TIMEOUT says otherwise
TRIES = 3  # at a listing or the size of a file
_WAY = _later(
    "Without network: on another machine run `hf download {name}{pin} --local-dir FOLDER`, copy FOLDER here and give "
    'its path as the model; or use the bundled "nano".'
)
_MISSING = _later(
    "The hub has no public repository {name}; check the spelling. If you meant a folder, there is none of that name here."
)
_NO_HUB = _later("The answer for {name} is not that of a hub: check HF_ENDPOINT. {way}")
_SLOW = _later("The hub did not answer in time for {name}: the network is slow or blocked. {way}")
_UNREACHED = _later("The hub cannot be reached for {name} ({kind}): no network, or a firewall. {way}")
_CUT = _later(
    "The download of {name} was cut off ({kind}): check the network, then try again; whole files are kept, a half one "
    "starts anew. {way}"
)
_SAID = {  # HTTP status or class of the error -> what is said; the first that holds
    "GatedRepoError": "{name} is gated: accept its terms on its page on the hub, then run `hf auth login`. The course's "
    "own models ({hub_model} and nano) need neither.",
    "RevisionNotFoundError": '{name} has no revision "{revision}" on the hub; leave it out, or look up the commits on '
    "its page.",
    "RepositoryNotFoundError": _MISSING,
    401: "The hub refuses the access token of this machine (HF_TOKEN or `hf auth login`): unset it or log in again; "
    "public models need none.",
    403: "The hub, or a proxy on the way, refuses {name} (403). {way}",
    404: _MISSING,
    429: "The hub is asked too often from this network (429): try again {when}. {way}",
    "HfHubHTTPError": "The hub answers {status} for {name}: try again later. {way}",
    "TimeoutException": _SLOW,
    "TimeoutError": _SLOW,
    "JSONDecodeError": "Something else answers in the place of the hub (a login page of this network?), so {name} is "
    "not fetched. {way}",
    "FileMetadataError": _NO_HUB,
    "TypeError": _NO_HUB,
    "KeyError": _NO_HUB,
    "AttributeError": _NO_HUB,
    "ConnectionError": _CUT,
    "OSError": "{name} cannot be written to {cache}: {why}; free space there, or set HF_HOME to a folder that you may "
    "write to.",
    "ConnectError": _UNREACHED,
    "ProxyError": _UNREACHED,
    "Exception": _CUT,
}
_ONE_AT_A_TIME = threading.Lock()  # for threads; processes wait for each other within huggingface_hub


def model_folder(name, revision=None, quiet=False):
    """Return the local folder that holds model ``name``; download it when it is a hub name.

    Args:
        name: "nano", a local folder, or a hub name such as "Qwen/Qwen3-Reranker-0.6B".
        revision: commit on the hub; the default is pinned for the course's own model. For other names the commit
            that was taken is printed, so that it can be given the next time.
        quiet: print nothing and show no bar.

    Returns:
        pathlib.Path of a folder with config, tokenizer and safetensors.

    Raises:
        InputError: for an unknown name, a folder that ``check_folder`` refuses, no network, a missing or gated
            repository, a busy hub, a broken download, or too little disk space.
    """
    if str(name) in BUNDLED:
        path = BUNDLED[str(name)]
        if not path.is_dir():
            raise InputError(
                'The bundled model "{name}" is not at {path}; get the whole project again, with its data.',
                name=name,
                path=path,
            )
        return _check_folder(path)
    try:
        path = Path(name).expanduser()
        here = path.exists()
    except (OSError, RuntimeError, ValueError, TypeError):  # a name that is no path on this system
        here = None
    if here:
        return _check_folder(path)
    owner, slash, _rest = str(name).replace("\\", "/").partition("/")
    if slash and here is not None and (not HUB_NAME.fullmatch(str(name)) or Path(owner).exists()):
        raise InputError(
            'There is no folder "{name}"; check the path, or give a hub name as "{hub_model}".',
            name=str(name)[:200],
            hub_model=HUB_MODEL,
        )
    if not HUB_NAME.fullmatch(str(name)) or ".." in str(name) or "--" in str(name):
        raise InputError(
            'No model "{name}": it is neither "nano", nor a folder that exists, nor a hub name such as "{hub_model}".',
            name=str(name)[:200],
            hub_model=HUB_MODEL,
        )
    return _hub_folder(str(name), revision or REVISIONS.get(str(name)), quiet)


def _hub_folder(name, revision, quiet):
    """Return the folder of ``name`` in the hub's cache, fetched first if need be; print which commit was taken."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    store = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    _inside(store / "refs", revision or "main")
    source, reason = _("from the local cache"), None
    try:
        folder = _check_folder(snapshot_download(name, revision=revision, local_files_only=True, **WANTED))
    except LocalEntryNotFoundError:
        reason = _("its download was never finished") if store.exists() else _("it was never downloaded")
    except InputError as error:
        reason = str(error).rstrip(".")
    if reason and constants.HF_HUB_OFFLINE:
        text = _("{name} is not ready in the local cache ({why}) and HF_HUB_OFFLINE is set. {way}")
        raise InputError(text.format(name=name, why=reason, way=_way(name, revision)))
    if reason:  # aloud, also where quiet: nobody should run a stranger's model because of a slip in a path
        text = _("{name} is no folder here: fetching it from the hub, {hub}")
        print(text.format(name=name, hub=constants.ENDPOINT), file=sys.stderr)
        folder, source = _check_folder(_download(name, revision, store, quiet)), _("from the hub")
    if folder.name != revision and not quiet:
        asked = _('revision "{revision}"').format(revision=revision) if revision else _("no revision given")
        text = _('{name}: {asked}, commit {commit} taken {source}; revision="{commit}" gets the same again')
        print(text.format(name=name, asked=asked, commit=folder.name, source=source))
    return folder


def _download(name, revision, store, quiet):
    """Fetch ``name`` at ``revision`` into the hub's cache, check the weights and return the folder."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        with _ONE_AT_A_TIME, _short_waits(quiet):
            info = HfApi().model_info(name, revision=revision, files_metadata=True)
            digests = _check_listing(name, revision, info, store)
            # One file after the other: with more, a failure is told only when the other files have ended.
            folder = Path(snapshot_download(name, revision=revision, max_workers=1, **WANTED))
            wrong = [file for file, digest in digests.items() if sha256(folder / file) != digest]
            for file in wrong:  # first what a link leads to
                (folder / file).resolve().unlink()
                (folder / file).unlink(missing_ok=True)
    except InputError:
        raise
    except (HTTPError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(_explain(error, name, revision, store)) from None
    if wrong:
        raise InputError(
            "{wrong_0} of {name} arrived with a wrong checksum and was thrown away; try again, and if that does not "
            "help, something on the way (a proxy, a mirror) changes what is sent.",
            wrong_0=wrong[0],
            name=name,
        )
    return folder


def _check_listing(name, revision, info, store):
    """Refuse what cannot become a model before anything is fetched; return file -> sha256, where the hub tells it."""
    from huggingface_hub.utils import filter_repo_objects

    commit = info.sha or ""
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision or "") and commit != revision):
        raise InputError(
            "The answer for {name} does not come from a hub (commit {commit!r}): check HF_ENDPOINT.",
            name=name,
            commit=commit[:60],
        )
    listed = {str(sibling.rfilename): sibling for sibling in info.siblings or []}
    wanted = list(filter_repo_objects(listed, **WANTED))
    if not any(file.endswith(".safetensors") for file in wanted):
        raise InputError(
            "{name} on the hub {no_weights} Nothing was downloaded.", name=name, no_weights=_no_weights(listed)
        )
    digests = {file: listed[file].lfs.sha256 for file in wanted if listed[file].lfs}
    for file, digest in (CHECKSUMS.get(name, {}) if revision == REVISIONS.get(name) else {}).items():
        if digests.setdefault(file, digest) != digest:
            raise InputError(
                "{file} of {name} is not the file that the course pins; check HF_ENDPOINT.", file=file, name=name
            )
    need = SPARE_MB
    for file in wanted:
        here = store / "snapshots" / commit / file
        if here.exists() and here.stat().st_size != listed[file].size:  # of another tool; it would be kept as it is
            here.unlink()
        need += 0 if here.exists() else (listed[file].size or 0) / 2**20
    place = next(folder for folder in (store, *store.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**20
    if SPARE_MB < need > free:
        raise InputError(
            "{name} needs {need:.0f} MB (and {spare_mb} MB to spare) and {place} has {free:.0f} MB free; free some "
            "space or set HF_HOME to a folder on a larger disk.",
            name=name,
            need=need - SPARE_MB,
            spare_mb=SPARE_MB,
            place=place,
            free=free,
        )
    return digests


@contextmanager
def _short_waits(quiet):
    """Let huggingface_hub give up within half a minute, by hooks of its HTTP session, and show no bar if quiet."""
    from huggingface_hub import constants, get_session, utils

    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT if "HF_HUB_DOWNLOAD_TIMEOUT" in os.environ else TIMEOUT
    tries = Counter()

    def ask(request):
        waits = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        request.extensions = {**request.extensions, "timeout": waits}
        tries[str(request.url)] += request.method == "HEAD" or "/api/" in request.url.path
        if tries[str(request.url)] > TRIES:
            raise TimeoutError

    def hear(response):
        status, url = response.status_code, str(response.request.url)
        if status == 200 and "Range" in response.request.headers:  # asked for the rest, it sends all of it again
            tries[url] += 1
            if tries[url] > TRIES:
                raise ConnectionError
        if status == 429 or (status >= 500 and tries[url] >= TRIES):
            response.read()
            utils.hf_raise_for_status(response)

    session, silent = get_session(), utils.are_progress_bars_disabled()
    hooks, settings = session.event_hooks, {key: getattr(constants, key) for key in MEANWHILE}
    session.event_hooks = {"request": [*hooks["request"], ask], "response": [*hooks["response"], hear]}
    vars(constants).update(MEANWHILE)
    if quiet:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        session.event_hooks = hooks
        vars(constants).update(settings)
        if quiet and not silent:
            utils.enable_progress_bars()


def _way(name, revision):
    """Return the sentence on how to go on without network."""
    return _(_WAY).format(name=name, pin=f" --revision {revision}" if revision else "")


def _explain(error, name, revision, store):
    """Return the sentence of _SAID for an error between here and the hub."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    error = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    response = getattr(error, "response", None)
    status, headers = getattr(response, "status_code", None), getattr(response, "headers", {})
    asked = re.search(r"^(\d+)$|\br=0\b.*?\bt=(\d+)", headers.get("Retry-After") or headers.get("RateLimit", ""))
    kinds = [kind.__name__ for kind in type(error).__mro__]
    seconds = asked and (asked.group(1) or asked.group(2))
    return _(next(sentence for key, sentence in _SAID.items() if key == status or key in kinds)).format(
        name=name,
        hub_model=HUB_MODEL,
        revision=revision,
        way=_way(name, revision),
        kind=kinds[0],
        status=status,
        when=_("in {seconds} s").format(seconds=seconds) if asked else _("in some minutes"),
        cache=store.parent,
        why=getattr(error, "strerror", None) or str(error).split("\n")[0][:200],
    )
