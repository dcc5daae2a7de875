"""Exports loaded in another Python, whose packages cannot live beside transformers 5."""

import json
import subprocess

import numpy as np

from benchmarks.exports.here import SIZES, chat, gap

CHILD = """
import json, sys, torch
torch.set_num_threads(1)
mode, folder, data = sys.argv[1:]
chats = json.load(open(data, encoding="utf-8"))
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder)
if mode == "causal":
    from transformers import AutoModelForCausalLM as Auto
    model = Auto.from_pretrained(folder).eval()
elif mode == "label":
    from transformers import AutoModelForSequenceClassification as Auto
    model = Auto.from_pretrained(folder).eval()
else:
    from optimum.onnxruntime import ORTModelForSequenceClassification as Auto
    model = Auto.from_pretrained(folder, export=True)
yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
out = {}
for size in (1, 8):
    scores = []
    for i in range(0, len(chats), size):
        batch = tokenizer.apply_chat_template(chats[i : i + size], padding=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logits = model(**batch).logits
        scores += (logits[:, -1, yes] - logits[:, -1, no] if mode == "causal" else logits[:, 0]).tolist()
    out[size] = scores
from importlib.metadata import version
names = ["transformers"] + (["optimum", "optimum-onnx"] if mode == "optimum" else [])
print(json.dumps({"scores": out, "versions": {n: version(n) for n in names}}))
"""


def run_child(python, mode, folder, data):
    """Score in another Python; return ({batch size: scores}, {package: version})."""
    done = subprocess.run(
        [python, "-c", CHILD, mode, str(folder), str(data)], capture_output=True, text=True, check=False, timeout=1200
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    out = json.loads(done.stdout.strip().splitlines()[-1])
    return {int(k): np.array(v) for k, v in out["scores"].items()}, out["versions"]


def other_version(python, package):
    """Return "name version" of a package in another Python."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{package} {done.stdout.strip()}"


def rows_of(python, folders, pairs, truth, root):
    """Return rows as ``here.rows_here`` does, scored by transformers and optimum in another Python."""
    data = root / "chats.json"
    data.write_text(json.dumps([chat(*pair) for pair in pairs]), encoding="utf-8")
    rows = []
    for mode, folder, title in (
        ("causal", "causal", "AutoModelForCausalLM"),
        ("label", "label", "AutoModelForSequenceClassification"),
        ("optimum", "label", "optimum, exports and loads"),
    ):
        got, versions = run_child(python, mode, folders[folder], data)
        with_ = ", ".join(f"{n} {v}" for n, v in versions.items())
        rows.append((title, folder.replace("label", "one label"), with_, *(gap(got[s], truth) for s in SIZES)))
    config = folders["causal"] / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({k: v for k, v in content.items() if k != "rope_theta"}), encoding="utf-8")
    got, versions = run_child(python, "causal", folders["causal"], data)
    config.write_text(json.dumps(content), encoding="utf-8")
    title = "AutoModelForCausalLM, `rope_theta` taken out as transformers 5 writes it"
    cells = (f"**{gap(got[s], truth)}**" for s in SIZES)
    return [*rows, (title, "causal", f"transformers {versions['transformers']}", *cells)]
