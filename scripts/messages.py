"""Keep the Chinese catalogue of the package's messages: find them in the code, compile what is translated.

python scripts/messages.py           bring course_utils.po up to date with the code, and compile it
python scripts/messages.py --check   only say what is missing; exit code 1 when something is

A message is a literal in one of these calls: ``_("...")``, ``_later("...")``, ``InputError("...")`` and its kinds, ``_Refused(status, "...")``,
and in the checks ``ok("...")`` and ``need(condition, "...")``; or the default of an argument ``title``, or a
value in one of TABLES. What the code no longer says leaves the catalogue; what is new has an empty
translation, which a test names. Babel reads and writes the files.
"""

import ast
import io
import re
import string
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "course_utils"
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "course_utils.po"
TABLES = {
    "REMARKS",
    "REASONS",
    "_SAID",
    "_MARGIN_MISTAKES",
    "_PROGRAMS",
}  # constants whose sentences go through ``_`` where they are used
WORDS = {"MESSY", "SLICES", "_ARGPARSE", "_JSON_SAYS", "_NAMES"}  # the same, single words too
PERCENT = re.compile(r"%(?:\(\w+\))?[sdr]")  # fields of what argparse says
CALLS = {
    "_": 0,
    "_Problem": 0,
    "_later": 0,
    "InputError": 0,
    "DataError": 0,
    "TrainingError": 0,
    "ok": 0,
    "need": 1,
    "_Refused": 1,
}
HEADER = """# The messages of the package in Chinese. Written by hand: each msgstr; everything else by scripts/messages.py.
# Terms are those of notebooks/zh/术语表.md. Fields in braces stay as they are; their order is free."""


def messages():
    """Return {message: [files that say it]} of the package and of the script that starts everything."""
    found = {}
    for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "scripts" / "run.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                texts = node.args[CALLS[name] :][:1] if name in CALLS else []
            elif isinstance(node, ast.FunctionDef):
                named = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                texts = [default for argument, default in named if argument.arg == "title"]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in TABLES | WORDS:
                values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
                texts = [
                    n
                    for value in values
                    for n in ast.walk(value)
                    if " " in str(getattr(n, "value", "")) or node.targets[0].id in WORDS
                ]
            else:
                continue
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value:
                    found.setdefault(text.value, []).append(path.relative_to(ROOT).as_posix())
    return found


def fields(text):
    """Return the fields in braces of a message, sorted, with their formats."""
    parsed = string.Formatter().parse(text)
    return sorted((name, conversion or "", spec or "") for _, name, spec, conversion in parsed if name is not None)


def catalogue(old):
    """Return the catalogue of the messages in the code with the translations of ``old``."""
    new = Catalog(locale="zh_CN", header_comment=HEADER, project="reranker-course", fuzzy=False)
    new.creation_date = datetime(2026, 1, 1, tzinfo=UTC)  # today's date would make two branches differ
    new.mime_headers = [("Content-Type", "text/plain; charset=utf-8"), ("Language", "zh_CN")]
    for text, files in sorted(messages().items(), key=lambda item: (item[1][0], item[0])):
        known = old.get(text)
        flags = {"python-brace-format"} if "{" in text else set()
        new.add(text, known.string if known else "", [(f, None) for f in dict.fromkeys(files)], flags=flags)
    return new


def as_po(catalog):
    """Return a catalogue as the bytes of its .po file."""
    out = io.BytesIO()
    write_po(out, catalog, width=120, include_lineno=False)
    return b"\n".join(line for line in out.getvalue().split(b"\n") if not line.startswith(b'"Plural-Forms'))


def as_mo(catalog):
    """Return a catalogue compiled."""
    out = io.BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def read():
    """Return the catalogue as it lies in the project."""
    return read_po(io.BytesIO(PO.read_bytes()), locale="zh_CN") if PO.exists() else Catalog(locale="zh_CN")


def faults():
    """Return what is wrong with the catalogue, in sentences."""
    own, said = read(), []
    known, needed = {m.id: m for m in own if m.id}, messages()
    said += [f"not in the catalogue: {text!r} ({needed[text][0]})" for text in needed if text not in known]
    said += [f"no longer in the code: {text!r}" for text in known if text not in needed]
    for text, message in known.items():
        if not message.string or message.fuzzy:
            said.append(f"not translated: {text!r}")
        elif (
            "{" in text
            and fields(text) != fields(message.string)
            and not set(fields(message.string)) < set(fields(text))
        ) or sorted(PERCENT.findall(text)) != sorted(PERCENT.findall(message.string)):
            said.append(f"other fields than in English: {message.string!r}")
    compiled = PO.with_suffix(".mo")
    if not compiled.exists() or compiled.read_bytes() != as_mo(own):
        said.append("the compiled catalogue is not that of the text")
    return said


def main(arguments):
    """Update and compile the catalogue, or with --check say what is missing; return the exit code."""
    if arguments != ["--check"]:
        new = catalogue(read())
        PO.parent.mkdir(parents=True, exist_ok=True)
        PO.write_bytes(as_po(new))
        PO.with_suffix(".mo").write_bytes(as_mo(read()))
    wrong = faults()
    print(
        "\n".join(
            [*wrong[:40], *(["..."] if len(wrong) > 40 else []), f"{len(wrong)} to do, {len(messages())} messages"]
        )
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
