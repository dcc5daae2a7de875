"""What went wrong between here and the hub, in one sentence that says what to do."""

import json
import re

from course_utils.profile import HUB_MODEL


def offline_way(name, revision=None):
    """Return the sentence that tells how to get model ``name`` onto a machine without network."""
    pin = f" --revision {revision}" if revision else ""
    return (
        f"Without network: on another machine run `hf download {name}{pin} --local-dir FOLDER`, copy FOLDER here and "
        'give its path as the model; or use the bundled "nano".'
    )


def status_of(error):
    """Return the HTTP status of an error, or None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def asked_wait(error):
    """Return the seconds that a busy hub asks to wait (Retry-After or RateLimit header), or None."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    text = headers.get("Retry-After", "")
    if not text.isdigit():
        found = re.search(r"\br=0\b.*?\bt=(\d+)", headers.get("RateLimit", ""))
        text = found.group(1) if found else ""
    return int(text) if text else None


def explain(error, name, revision, kept=""):
    """Return what went wrong between here and the hub, in words, with what to do.

    Args:
        error: of huggingface_hub or of its HTTP library.
        name: hub name.
        revision: what was asked for, or None.
        kept: what of the file is already here.
    """
    status, way = status_of(error), offline_way(name, revision)
    if status is None:
        return " ".join(filter(None, [_no_answer(error, name, kept), kept, way]))
    headers = error.response.headers
    code, text = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    wait = asked_wait(error)
    when = f"in {wait} s" if wait else "in some minutes"
    table = (  # the first line that holds is said
        (
            code == "GatedRepo",
            f"{name} is gated: accept its terms on its page on the hub, then run `hf auth login`. The course's own "
            f"models ({HUB_MODEL} and nano) need neither.",
        ),
        (
            status == 401 and "credentials" in text.lower(),
            "The hub refuses the access token of this machine (HF_TOKEN or `hf auth login`): unset it or log in again; "
            "public models need none.",
        ),
        (
            code == "RevisionNotFound",
            f'{name} has no revision "{revision}" on the hub; leave it out, or look up the commits on its page.',
        ),
        (
            code == "RepoNotFound" or status in (401, 404),
            f"The hub has no public repository {name}; check the spelling. If you meant a folder, "
            "there is none of that name here.",
        ),
        (status == 403, f"The hub, or a proxy on the way, refuses {name} (403). {way}"),
        (status == 429, f"The hub is asked too often from this network (429): try again {when}. {kept} {way}"),
        (True, f"The hub answers {status} for {name}: try again later. {kept} {way}"),
    )
    return " ".join(next(sentence for holds, sentence in table if holds).split())


def _no_answer(error, name, kept):
    kind = type(error).__name__
    if "Timeout" in kind:
        return f"The hub did not answer in time for {name}: the network is slow or blocked."
    if isinstance(error, json.JSONDecodeError):
        return (
            f"Something else answers in the place of the hub (a login page of this network?), so {name} is not fetched."
        )
    if isinstance(error, (TypeError, KeyError, AttributeError)):
        return f"The answer for {name} is not that of a hub: check HF_ENDPOINT."
    if kept:
        return f"The download of {name} was cut off ({kind}): check the network, then try again."
    return f"The hub cannot be reached for {name} ({kind}): no network, or a firewall."
