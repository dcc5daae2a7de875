"""Prove that nothing held out entered training: no text equals a held-out one or shares a run of 40 letters with it.

    python -m distil.check_leaks --real FOLDER --out DIR

Held out: queries and documents of all real test files, of the course's dev and test topics, and of its trades. Looked
at: every item (windows and lists), every human list of the last stage. Train queries of real trades are checked too.
"""

import argparse
import json
from pathlib import Path

from distil.build import general_lists
from distil.texts import RUN, HeldOut, plain


def naive_has(held_out, text):
    """Return whether ``text`` is held out, found the slow way: by a search in all held-out text."""
    own = plain(text)
    return own in held_out.texts or any(
        own[i : i + RUN] in held_out.joined for i in range(0, max(0, len(own) - RUN + 1), 7)
    )


def main():
    """Run the command line; see the module's docstring. Exits with 1 where a leak is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    from transformers import AutoTokenizer

    held_out, work = HeldOut(a.real), Path(a.out)
    held_out.joined = "\n".join(held_out.texts)
    assert all(held_out.has(t) for t in list(held_out.texts)[:200]), "the check finds nothing at all"
    with (work / "items.jsonl").open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    texts = {t for i in items for t in (i["passage"], *i["queries"])}
    groups, _ = general_lists(a.real, AutoTokenizer.from_pretrained(work / "vocabulary"), held_out)
    labelled = {t for g in groups for t in (g.query, *g.documents)}
    found = [t for t in texts | labelled if held_out.has(t)]
    slow = [t for t in list(texts)[:300] if naive_has(held_out, t)]
    asked = {q for i in items for q in i["queries"] if plain(q) in held_out.asked}
    print(f"held out: {len(held_out.texts)} texts; {len(texts)} texts of items, {len(labelled)} of human lists")
    print(f"leaks: {len(found)}; by plain search in 300 texts: {len(slow)}; train queries of trades used: {len(asked)}")
    for t in [*found[:5], *slow[:5], *list(asked)[:10]]:
        print("  ", t[:100])
    raise SystemExit(bool(found or slow or asked))


if __name__ == "__main__":
    main()
