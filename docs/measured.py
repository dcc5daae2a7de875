"""What the last run of the course measured: its picture, a sentence about it, its page."""

import json
import os

import gather
from gather import pages, write
from words import SAID


def measured(build):
    """Return what the last run of the course wrote about itself, or None."""
    path = build / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def picture(run, folder, language):
    """Draw before and after of a run into ``folder``; return its HTML, or "" without a run that measured.

    Args:
        run: what ``measured`` returned.
        folder: where the picture goes.
        language: en or zh, of the words in the picture.
    """
    if not run or not run["measured"]:
        return ""
    os.environ.setdefault("MPLBACKEND", "agg")
    from course_utils.show import plots
    from course_utils.show.style import _has_cjk_font, image_html

    chinese = language == "zh" and _has_cjk_font()  # without such a font a picture in Chinese would show boxes
    os.environ["COURSE_LANGUAGE"] = "zh" if chinese else "en"
    rows = [(name, r["before"], r["after"], r["low"], r["high"]) for name, r in run["measured"].items()]
    said = "训练前后的 nDCG@10" if chinese else "nDCG@10 before and after training"
    output = {"data": {"text/html": image_html(plots.before_after(rows, title=said))}}
    return gather.shown(output, folder / "pictures", "front")["data"]["text/html"].replace(' loading="lazy"', "")


def verdict(run, language):
    """Return a sentence that says how many of a run's sets changed for sure."""
    rows = run["measured"].values()
    up, down = sum(r["low"] > 0 for r in rows), sum(r["high"] < 0 for r in rows)
    rest = len(rows) - up - down
    if language == "zh":
        return (
            f"这次运行（{run['profile']} 档位，一个随机种子）测了 {len(rows)} 个测试集：{up} 个确定变好（95% 置信区间整个在 0 以上），"
            f"{down} 个确定变差，{rest} 个区间含 0，还不能断定。"
        )
    return (
        f"This run ({run['profile']} profile, one seed) measured {len(rows)} test sets: {up} better for sure (the whole 95 % interval "
        f"lies above 0), {down} worse for sure, {rest} not settled (the interval holds 0)."
    )


def run_page(build, sources, extra, language):
    """Write the page of this run: picture, table, time of each lesson."""
    said, run = SAID[language], measured(build)
    if not run:
        return write(sources, "run", f"# {said['run title']}\n\n{said['no run']}\n")
    heads = {
        "en": "data,document alone,BM25,before,after,difference,interval,general before,general after,training queries,test queries,seconds",
        "zh": "数据,只看文档,BM25,适配前,适配后,差值,区间,通用测试（前）,通用测试（后）,训练查询,测试查询,秒",
    }[language].split(",")
    how = {
        "en": "nDCG@10 on test topics that the model never saw; 95 % paired bootstrap over queries. “Document alone” is a rule that never "
        "reads the query; BM25 matches words; the general test shows what was forgotten.",
        "zh": "在模型没见过的测试主题上测 nDCG@10；区间是对查询做自助法得到的 95% 区间。“只看文档”是从不读查询的规则；BM25 按词匹配；通用测试说明忘掉了多少。",
    }[language]
    lines = [f"# {said['run title']}", "", verdict(run, language), "", picture(run, extra, language), "", how, ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, r in run["measured"].items():
        cells = [name, *(f"{r[k]:.3f}" for k in ("document_alone", "bm25", "before", "after"))]
        cells += [f"{r['difference']:+.3f}", f"{r['low']:+.3f} … {r['high']:+.3f}"]
        cells += [f"{r['general_before']:.3f}", f"{r['general_after']:.3f}"]
        cells += [str(r["train_queries"]), str(r["test_queries"]), f"{r['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"## {said['lessons']}",
        "",
        {"en": "| lesson | seconds |", "zh": "| 课 | 秒 |"}[language],
        "|---|---|",
    ]
    have = set(pages().values())
    for name, lesson in run["lessons"].items():
        link = f"[{name}](lessons/{name})" if f"lessons/{name}" in have else name
        lines.append(f"| {link} | {lesson['seconds']:.0f}{' ⚠' if lesson['error'] else ''} |")
    write(sources, "run", "\n".join(lines) + "\n")
