"""Rank a few everyday and demo candidates in both languages.

python -m distil.demo MODEL [MODEL ...]
"""

import sys

import torch

from course_utils.reranker import Reranker

RICE = [
    "To cook rice, rinse it and boil it in water.",
    "Rinse the grains, add water and simmer until it is absorbed.",
    "Rice is grown in flooded fields in many parts of Asia.",
    "The stock market fell on Monday.",
]
MIFAN = [
    "把米淘洗干净，加水煮熟即可。",
    "电饭锅加米和水，按下开关等它跳起。",
    "水稻主要种植在亚洲的水田里。",
    "周一股市下跌。",
]
DEMO = {  # the best candidate first, as a reader would have it
    "how do I cook rice": RICE,
    "米饭怎么煮": MIFAN,
    "糖尿病治疗方案": ["糖尿病胰岛素治疗指南", "糖尿病饮食管理", "高血压药物选择"],
    "高血压饮食建议": ["低盐饮食建议", "运动降压方法", "高血压并发症预防"],
    "diabetes treatment plan": [
        "insulin therapy guidelines for diabetes", "diet management in diabetes", "choice of blood pressure drugs",
    ],
    "dietary advice for hypertension": [
        "advice on a low-salt diet", "exercise to lower blood pressure", "preventing complications of hypertension",
    ],
}  # fmt: skip


def main(models):
    """Print a table: scores of each model, candidates in the order a reader expects."""
    torch.set_num_threads(1)
    rerankers = [Reranker.load(m, quiet=True) for m in models]
    print("| query | candidate | " + " | ".join(models) + " |\n|---|---|" + "--:|" * len(models))
    for query, documents in DEMO.items():
        columns = [r.score([(query, d) for d in documents]) for r in rerankers]
        for n, d in enumerate(documents):
            print(f"| {query if not n else ''} | {d} | " + " | ".join(f"{c[n]:+.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
