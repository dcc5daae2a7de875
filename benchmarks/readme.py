"""The tables of figures in README.md and README.zh.md, made from what the measuring commands kept.

    python -m benchmarks.readme            write them
    python -m benchmarks.readme --check    say which is stale, and change nothing

A table stands between two comments: `<!-- figures: course trades -->`, `other people's text` or `a pretrained base`, and
`<!-- figures end -->`.
"""

import argparse
import re
import sys

import numpy as np

from benchmarks import course_trades_page as trades
from benchmarks.common import HERE, Cells, interval, number, unpacked, write_page
from benchmarks.course_trades_page import pooled, shown, values
from benchmarks.real_sets_page import DEFAULT, ENCODER, RULED, known, mean_of, means, runs_of, shared
from course_utils.evaluation import paired_bootstrap
from course_utils.files import ROOT
from course_utils.text import markdown_table

TRADES = ("medical-en", "medical-zh", "legal-zh", "legal-en-tosdr", "finance-en-tatqa")  # sets with a train file
CHINESE = {
    "set": "集", "random": "随机顺序", "document alone": "只看文档", "base": "基座", "base + rule": "基座 + 规则",
    "adapted": "适配之后", "gain, new topics": "提升，新主题", "gain, new questions": "提升，已知文档的新问题",
    "nano + rule": "nano + 规则", "gain": "提升", "multilingual-e5-small - nano": "multilingual-e5-small 减 nano", "gain, best epoch": "提升，保留最好一轮",
    "the rule": "规则", "last 3 layers": "最后 3 层", "all layers": "全部层", "mean": "平均",
    "course legal-en": "课程的英文法律",
}  # fmt: skip


def course_trades():
    """Return the table of the course's own trades: new topics, and the gain on new questions."""
    cells = Cells(HERE / "course_trades.json")
    rows = []
    for name in cells.data["sizes"]:
        own, runs = cells.get(name, "as it is"), trades.runs_of(cells, name)
        after = {part: trades.mean_of(runs, part) for part in ("test", "questions")}
        plain = [cells.get(name, kind, "test")["ndcg@10"] for kind in ("random", "document alone", "BM25")]
        ends = [own["base"]["test"]["ndcg@10"], own["rule"]["test"]["ndcg@10"], after["test"].mean()]
        gains = [shown(paired_bootstrap(values(own["base"][part]), found)) for part, found in after.items()]
        rows.append([name, *(number(v, 3) for v in (*plain, *ends)), *gains])
    head = ["set", "random", "document alone", "BM25", "base", "base + rule", "adapted"]
    return [*head, "gain, new topics", "gain, new questions"], rows


def real_sets():
    """Return the table of five trades of other people's text; the encoder beside nano on the queries that it was measured on."""
    cells, ways = Cells(HERE / "real_sets.json"), (DEFAULT, "last3")
    found, rows = {name: means(cells, name, "nano") for name in TRADES}, []
    for name, own in found.items():
        plain = [known(cells, name, "BM25")["ndcg@10"], own["as it is"].mean(), own[RULED].mean()]
        small = cells.get(name, ENCODER)
        ahead = interval(shared(cells, name, small)(own["as it is"]), unpacked(small["values"]))
        gains = [interval(own["as it is"], own[way]) for way in ways]
        rows.append([name, *(number(v, 3) for v in plain), *gains, ahead])
    # In the order of the page, whose draws are then the same.
    order = [found[name] for name in cells.data["sets"] if name in found]
    average = [shown(pooled([own[way] - own["as it is"] for own in order])) for way in ways]
    rows.append(["mean", *(number(np.mean([float(r[i]) for r in rows]), 3) for i in (1, 2, 3)), *average, ""])
    return ["set", "BM25", "nano", "nano + rule", "gain", "gain, best epoch", "multilingual-e5-small - nano"], rows


def pretrained():
    """Return the table of SmolLM2-135M, adapted with 80 queries of a trade three ways; * is from its second general stage."""
    cells = Cells(HERE / "own_base_ways.json")
    models = {"smollm2-general": "", "smollm2-general-again": "*"}
    rows = []
    for name in cells.data["sets"]:
        row = [name, f"{cells.get(name, 'document alone')['ndcg@10'] - cells.get(name, 'random')['ndcg@10']:+.3f}"]
        for way in ("last3", "lora", "all"):
            found = [
                interval(unpacked(cells.get(name, model, "as it is")["values"]), mean_of(runs)) + mark
                for model, mark in models.items()
                if len(runs := runs_of(cells, name, model, way)) == 3
            ]
            row.append(found[0] if found else "-")
        rows.append(row)
    return ["set", "the rule", "last 3 layers", "LoRA", "all layers"], rows


TABLES = {"course trades": course_trades, "other people's text": real_sets, "a pretrained base": pretrained}


def filled(text, words):
    """Return a page with its tables written anew; ``words`` turns a heading or name into the page's language."""
    for name, table in TABLES.items():
        head, rows = table()
        made = markdown_table([words(h) for h in head], [[words(row[0]), *row[1:]] for row in rows])
        pattern = rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- figures end -->)"
        text, count = re.subn(pattern, lambda m, made=made: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f'a page has {count} tables between "<!-- figures: {name} -->" and its end')
    return text


def main(argv=None):
    """Write or check both pages; return 0, or 1 where --check finds a stale one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a table is stale")
    check, stale = parser.parse_args(argv).check, []
    for name, words in (("README.md", str), ("README.zh.md", lambda word: CHINESE.get(word, word))):
        text = (ROOT / name).read_text(encoding="utf-8")
        if (made := filled(text, words)) != text:
            stale.append(name)
            if not check:
                write_page(ROOT / name, made)
    if check and stale:
        print(f"stale tables in {', '.join(stale)}: run python -m benchmarks.readme")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
