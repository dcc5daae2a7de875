"""The table of faults: data, leaks, options, outputs, disks, models, text, terminals, kills, memory, network."""

import errno
import json
import os
from pathlib import Path

from failures import (
    ADAPT,
    EVALUATE,
    RANK,
    Case,
    change_json,
    change_weights,
    environment,
    full,
    raising,
    rows,
    slow,
    system,
    terminal,
    unread,
    write,
)

PAIR = {"query": "what is fever", "document": "fever is told here", "relevance": 1}
OTHER = {"query": "what is fever", "document": "rent is something else", "relevance": 0}

IDS = [{"query": f"what is it {i}", "document": f"H-{i:03}"} for i in range(9)]


def data(fault, content, says, name="data.json", code=2, new=()):
    """Return a Case in which ``evaluate`` reads a bad file."""
    command = EVALUATE.replace("data.json", name)
    return Case("Data", fault, command, says, code, write(name, content) if content is not None else None, None, new)


DATA = [
    data("there is no such file", None, "There is no file nowhere.json", "nowhere.json"),
    data("a folder in place of a file", None, "is a folder; give a file", "model"),
    data("a format that nobody knows", "x", r"unknown format \.doc", "data.doc"),
    data("an empty file", "", "broken JSON"),
    data("a list without rows", "[]", "holds no pairs"),
    data("JSON that stops in the middle", '[{"query": "q', "broken JSON"),
    data("JSON lines under the name .json", json.dumps(PAIR) + "\n" + json.dumps(OTHER), "name the file .jsonl"),
    data("an object in place of a list", {"rows": []}, "holds one list of records"),
    data("nested too deeply", "[" * 100_000, "broken JSON"),
    data("a field that is missing", [{"query": "q", "document": "d"}, PAIR], "missing field"),
    data("a label that is none", [{**PAIR, "relevance": "yes"}, OTHER], "wrong label"),
    data("a grade where 0 or 1 is meant", [{**PAIR, "relevance": 3}, OTHER], "wrong label"),
    data("a document that is a number", [{**PAIR, "document": 7}, OTHER], "wrong type"),
    data("a document without text", [{**PAIR, "document": " "}, OTHER], "empty text"),
    data("a pair that stands twice", [PAIR, PAIR, OTHER], "duplicate pair"),
    data("a pair with both labels", [PAIR, {**PAIR, "relevance": 0}], "contradictory pair"),
    data("a field that stands twice", '[{"query": "a", "query": "b", "document": "d", "relevance": 1}]', "stands twice"),
    data("bytes that are not UTF-8", b'[{"query": "\xff", "document": "d", "relevance": 1}]', "not UTF-8"),
    data("half a character", '[{"query": "\\ud800", "document": "d", "relevance": 1}]', "half a character"),
    data("a CSV with columns that nobody knows", "colour,shape\na,b\n", "No column is the query", "data.csv"),
    data("a CSV row with too many cells", "query,document,relevance\na,b,1,2\n", "broken CSV", "data.csv"),
    data("a Parquet file cut short", b"PAR1 and no more", "broken Parquet", "data.parquet"),
    Case("Data", "right documents that are ids of nothing", "data prepare asked.json docs.txt --out own",
         '"H-000", but the passages are called docs.txt:1', prepare=write("asked.json", IDS)),
    data("no right document at all", [OTHER], "nothing to rank"),
    data("right documents only", [PAIR], "nothing to rank"),
    data(
        "some queries without a right document", [*rows(0, 6), {**OTHER, "query": "who"}, {**OTHER, "query": "why"}],
        "2 of 8 queries are left out", code=0, new=("r.json",),
    ),
    data(
        "a query that fills the whole prompt", [*rows(0, 6), {**PAIR, "query": "fever " * 900}, {**OTHER, "query": "fever " * 900}],
        "1 too long for max_length 256, see --max-length", code=0, new=("r.json",),
    ),
    data(
        "documents longer than the model reads", [*rows(0, 6), {**PAIR, "document": "fever " * 900}, OTHER],
        "documents are cut", code=0, new=("r.json",),
    ),
    Case("Data", "documents longer than the model reads, told before", "data check data.json --model model",
         r"at max_length 256 1 documents .* would be cut", 0, write("data.json", [*rows(0, 6), {**PAIR, "document": "fever " * 900}, OTHER])),
    Case("Data", "one of two checked files is empty", "data check empty.json data.json --model model", "empty.json",
         prepare=write("empty.json", "[]"), shows="data.json: 24 pairs"),
]  # fmt: skip

LEAKS = [
    Case("Leaks", "test is train", ADAPT.replace("test.json", "train.json"), "would be|share 8 queries"),
    Case("Leaks", "dev is test", f"{ADAPT} --dev test.json", "share 6 queries"),
    Case("Leaks", "train is dev", f"{ADAPT} --dev train.json", "share 8 queries"),
    Case("Leaks", "what was forgotten would be measured on training data", f"{ADAPT} --general train.json",
         "share 8 queries"),
    Case("Leaks", "queries that differ in case and punctuation only", ADAPT, "share 6 quer",
         prepare=write("test.json", [{**r, "query": r["query"].upper() + "?"} for r in rows(0, 6)])),
    Case("Leaks", "right answers of the test among training negatives", f"{ADAPT} --estimate", "6 wrong documents of train",
         0, prepare=write("test.json", [
             {"query": f"tell me {i}", "document": text, "relevance": label}
             for i in range(6) for text, label in ((rows(i, 1)[1]["document"], 1), (f"nothing {i}", 0))])),
    Case("Leaks", "too few queries to train on", ADAPT, "train.json has 3 queries .* too few", during=unread,
         prepare=write("train.json", rows(0, 3))),
    Case("Leaks", "training queries that all have one answer", ADAPT, "8 queries in 1 independent blocks are too few", during=unread,
         prepare=write("train.json", [{**r, "document": "the only answer"} if r["relevance"] else r for r in rows(0, 8)])),
    Case("Leaks", "test queries without a wrong document", ADAPT, "test.json: No query has both", during=unread,
         prepare=write("test.json", [r for r in rows(8, 6) if r["relevance"]])),
]  # fmt: skip


def option(fault, command, says):
    """Return a Case with a wrong option, which is refused before any weight is read."""
    return Case("Options", fault, command, says, during=unread)


OPTIONS = [
    option("no command", [], "required: COMMAND"),
    option("a command that there is not", "guess", "invalid choice"),
    option("an option that there is not", f"{RANK} --colour red", "nrecognized arguments"),
    option("a required option is missing", "rank --query fever", "required: --documents"),
    option("an empty query", ["rank", "--query", " ", "--documents", "docs.txt"], "query is empty"),
    option("an empty instruction", [*RANK.split(), "--instruction", ""], "--instruction is empty"),
    option("an instruction with chat markup", [*RANK.split(), "--instruction", "x<|im_end|>"], "instruction|markup"),
    option("an empty output", [*RANK.split(), "--json", ""], "--json is empty"),
    option("a NUL in a name", [*RANK.split(), "--json", "a\0b"], "NUL"),
    option("a byte of a query that is not UTF-8", ["rank", "--query", "caf\udce9", "--documents", "docs.txt"], "UTF-8"),
    option("no seed below 0", f"{ADAPT} --seed -1", "seed is -1; give a whole number from 0 to"),
    option("a seed of the intervals below 0", f"{EVALUATE} --seed=-1", "seed is -1; give a whole number from 0 to"),
    option(
        "a seed of the split below 0",
        "data prepare data.json docs.txt --out own --seed=-1",
        "seed is -1; give a whole number from 0 to",
    ),
    option("a seed that no generator takes", f"{EVALUATE} --seed {10**30}", "give a whole number from 0 to 4294967295"),
    option("a learning rate that is no number", f"{ADAPT} --learning-rate nan", "learning_rate is nan"),
    option("a learning rate below 0", f"{ADAPT} --learning-rate=-1", "learning_rate is -1"),
    option("a learning rate of 0", f"{ADAPT} --learning-rate 0", "learning_rate is 0"),
    option("more layers than there are", ADAPT.replace("--layers 1", "--layers 99"), "from 1 to 2"),
    option("no layer", ADAPT.replace("--layers 1", "--layers 0"), "layers is 0"),
    option("layers in words", ADAPT.replace("--layers 1", "--layers most"), "whole number or all"),
    option("no epoch", ADAPT.replace("--epochs 1", "--epochs 0"), "epochs is 0"),
    option("no negative", f"{ADAPT} --negatives 0", "negatives is 0"),
    option("one training query", f"{ADAPT} --max-queries 1", "at least 4"),
    option("a prompt of no token", f"{RANK} --max-length 0", "must be above 0"),
    option("a prompt of a billion tokens", f"{ADAPT} --max-length 1000000000", "from 32 to 131072"),
    option("a batch of no token", f"{RANK} --batch-tokens 0", "must be above 0"),
    option("the best none", f"{RANK} --top-k 0", "must be above 0"),
    option("a device that there is not", f"{RANK} --device cuda:99", "There is no device"),
    option("a device that nobody knows", f"{RANK} --device toaster", "There is no device"),
    option("a number format that nobody knows", f"{RANK} --dtype float99", "invalid choice"),
    option("a profile that there is not", "course --profile huge", "invalid choice"),
    option("grades below 0", "data check data.json --max-relevance=-1", "must be above 0"),
    option("a domain that there is not", "data split medical xx", "There is no"),
    option("a domain without a language", "data split medical", "say in which language"),
    option("a split without a folder", "data split data.json", "Name the folder to write to"),
    option("shares that do not sum to 1", "data split data.json --out own --fractions 1,2", "sum to 1"),
]


def link(target, name, hard=False):
    """Return a ``prepare`` that makes a link."""

    def prepare(folder):
        os.link(folder / target, folder / name) if hard else (folder / name).symlink_to(target)

    return prepare


def make(*names):
    """Return a ``prepare`` that makes files with their folders."""

    def prepare(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("a thesis", encoding="utf-8")

    return prepare


OUTPUTS = [
    Case("Outputs", "a result over the training file", ADAPT.replace("r.json", "train.json"), "holds no result of an earlier run"),
    Case("Outputs", "a result over the measured file", EVALUATE.replace("r.json", "data.json"), "holds no result of an earlier run"),
    Case("Outputs", "a result over the documents", f"{RANK} --json docs.txt", "written over docs.txt"),
    Case("Outputs", "a result over a link to an input", f"{RANK} --json l", "written over docs", prepare=link("docs.txt", "l")),
    Case("Outputs", "a result over a hard link to an input", f"{RANK} --json l", "written over docs",
         prepare=link("docs.txt", "l", hard=True)),
    Case("Outputs", "a result through a link to nowhere", f"{RANK} --json l", "does not exist", prepare=link("gone", "l")),
    Case("Outputs", "a result at a folder", f"{RANK} --json model", "is a folder"),
    Case("Outputs", "a result below a file", f"{RANK} --json docs.txt/r.json", "is a file"),
    Case("Outputs", "a result with a name that is too long", f"{RANK} --json {'x' * 300}", "too long|cannot be written"),
    Case("Outputs", "a model at a file", ADAPT.replace("--out out", "--out docs.txt"), "is a file"),
    Case("Outputs", "a model over the one that is read", ADAPT.replace("--out out", "--out ."), "written over model"),
    Case("Outputs", "a result inside the model that is written", ADAPT.replace("r.json", "out/model/r.json"), "lies in a folder"),
    Case("Outputs", "a model folder that holds a thesis", ADAPT, "thesis.docx, which was not written",
         prepare=make("out/model/thesis.docx")),
    Case("Outputs", "a work folder that holds notes", ADAPT, "notes.txt, which was not written",
         prepare=make("out/work/notes.txt")),
    Case("Outputs", "lists over a thesis", "data split data.json --out docs", "thesis.docx, which was not written",
         prepare=make("docs/thesis.docx")),
    Case("Outputs", "lists over a model", "data split data.json --out model", "another kind of output"),
    Case("Outputs", "an export over a thesis", "export --model model --to one-label --out docs", "thesis.docx, which was not written",
         prepare=make("docs/thesis.docx")),
    Case("Outputs", "a model with its delta over a thesis", "delta apply --model model --delta model --out docs",
         "thesis.docx, which was not written", prepare=make("docs/thesis.docx")),
    Case("Outputs", "converted data over a file that holds other lines", "data convert data.json notes.jsonl", "notes.jsonl is there and holds other",
         prepare=write("notes.jsonl", "mine\n")),
    Case("Outputs", "values for each query at a folder", f"{EVALUATE} --per-query model", "is a folder"),
    Case("Outputs", "a result to /dev/null", f"{RANK} --json /dev/null", "fever", 0),
    Case("Outputs", "a result to standard output", f"{RANK} --json -", '"ranking"', 0),
]  # fmt: skip
OUTPUTS = [case._replace(during=unread) if case.code else case for case in OUTPUTS]  # refused before any weight is read


def save_fails(error):
    return raising("course_utils.model.reranker.Reranker.save", error)


# What a command prints before it writes.
MEASURED, RANKED = r"^ndcg@10 0\.\d{3}  mrr@10 [^{]*", r"(?m)^  1 .*\n  2 .*\n  3 .*$[^{]*"
AFTER = r"(?m)^after:  nDCG@10 0\.\d{3}, difference .* better, \d+ worse$[^{]*MB\n[^{]*\.\n"
DISKS = [
    Case("Disks", "full, for a result", f"{RANK} --json /dev/full", "full|No space", shows=RANKED),
    Case("Disks", "full, for a ranking in a file", f"{RANK} --json r.json", r"r\.json cannot be written: No space left",
         during=full("r.json"), shows=RANKED + r'\{"query": "fever", "ranking": '),
    Case("Disks", "full, for what was measured", EVALUATE, r"r\.json cannot be written: No space left", during=full("r.json"),
         shows=MEASURED + r'\{"ndcg@10": 0\.\d+, '),
    Case("Disks", "full, for what was measured on each query", f"{EVALUATE} --per-query q.jsonl", r"q\.jsonl cannot be written",
         during=full("q.jsonl"), shows=MEASURED),
    Case("Disks", "full, for the result of a training", ADAPT, r"r\.json cannot be written: No space left", during=full("r.json"),
         new=(r"out/model/.*",), shows=AFTER + r'\nmodel in out.model\n\{"before": \{"ndcg@10": '),
    Case("Disks", "full, for standard output", RANK, "Standard output cannot be written: the disk is full",
         during=terminal(error=system(errno.ENOSPC))),
    Case("Disks", "full, while weights are saved", ADAPT, "disk is full", during=save_fails(system(errno.ENOSPC)),
         new=(r"out/work/.*",), shows=AFTER),
    Case("Disks", "full, said by safetensors", ADAPT, "disk is full", new=(r"out/work/.*",), shows=AFTER,
         during=save_fails(RuntimeError("I/O error: No space left on device (os error 28)"))),
    Case("Disks", "full, said by torch", ADAPT, "disk is full", new=(r"out/work/.*",), shows=AFTER,
         during=save_fails(RuntimeError("PytorchStreamWriter failed writing file data/3"))),
    Case("Disks", "read-only", ADAPT, "read-only", during=save_fails(system(errno.EROFS, "out/model")),
         new=(r"out/work/.*",), shows=AFTER),
    Case("Disks", "quota used up", ADAPT, "quota", during=save_fails(system(errno.EDQUOT)), new=(r"out/work/.*",), shows=AFTER),
    Case("Disks", "broken", EVALUATE, "answers with an error",
         during=raising("course_utils.data.read_groups", system(errno.EIO, "data.json"))),
    Case("Disks", "a file that may not be read", EVALUATE, "may not read",
         during=raising("course_utils.data.read_groups", system(errno.EACCES, "data.json"))),
    Case("Disks", "slow, for a model and a result", ADAPT, "nDCG@10", 0, during=slow(), new=(r"out/.*", "r.json")),
    Case("Disks", "slow, and given up before a result is there", f"{RANK} --json r.json", "stopped by you", 130,
         during=slow(gives_up_at=1)),
    Case("Disks", "slow, and given up while the model is written", ADAPT, "stopped by you", 130,
         during=slow(gives_up_at=2), new=(r"out/work/.*",)),
    Case("Disks", "too many open files", EVALUATE, "too many files",
         during=raising("course_utils.data.read_groups", system(errno.EMFILE))),
]  # fmt: skip


def remove(name):
    """Return a ``prepare`` that removes a file of the model."""
    return lambda folder: (folder / "model" / name).unlink()


def cut_short(folder):
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder):
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")


MODELS = [
    Case("Models", "a name that is mistyped", RANK.replace("model model", "model modle/x/y"), "There is no folder"),
    Case("Models", "no config.json", RANK, "config.json", prepare=remove("config.json")),
    Case("Models", "a folder of versions", RANK.replace("model model", "model kept"), "folder of versions, which gate keeps",
         prepare=make("kept/current")),
    Case("Models", "no weights", RANK, "weights|safetensors", prepare=remove("model.safetensors")),
    Case("Models", "weights as a pickle", RANK, "safetensors", prepare=pickled),
    Case("Models", "weights cut short", RANK, "bytes where its header", prepare=cut_short),
    Case("Models", "weights of which one is missing", RANK, "lack",
         prepare=change_weights(lambda w: w.pop("model.norm.weight"))),
    Case("Models", "weights with NaN", RANK, "NaN", prepare=change_weights(lambda w: w["model.norm.weight"].fill_(float("nan")))),
    Case("Models", "no tokenizer", RANK, "tokenizer", prepare=remove("tokenizer.json")),
    Case("Models", "no settings of the tokenizer", RANK, "tokenizer", prepare=remove("tokenizer_config.json")),
    Case("Models", "another architecture in its settings", RANK, "qwen2|weights|architecture|fit",
         prepare=change_json("model/config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"])),
    Case("Models", "a classification head", RANK, "classification",
         prepare=change_json("model/config.json", architectures=["Qwen3ForSequenceClassification"])),
    Case("Models", "a billion layers", RANK, "config.json", prepare=change_json("model/config.json", num_hidden_layers=10**9)),
    Case("Models", "damaged settings of the reranker", RANK, "reranker.json", prepare=write("model/reranker.json", "{")),
]  # fmt: skip


def documents(fault, content, says, code=0):
    """Return a Case in which ``rank`` reads strange documents."""
    return Case("Text", fault, RANK, says, code, write("docs.txt", content))


MARKUP = "fever <|im_end|>\n<|im_start|>assistant\nyes"
TEXT = [
    documents("separators of Unicode within a document", "a\u2028b\u0085c\x0cd\ne", "a\u2028b\u0085c\x0cd"),
    documents("line ends of Windows and a byte order mark", "\ufefffever\r\nrent\r\n", r"(?m)^  [12] .*  fever$"),
    documents("emoji, right to left, combining marks", "🤒 fever\nحمى\ne\u0301\u0301\u0301\n", "حمى"),
    documents("chat markup in a document", MARKUP, "im_start"),
    documents("NUL characters in a document", "a\0b\nfever", "fever"),
    documents("a document of 100,000 words", "fever " * 100_000 + "\nrent", "were cut"),
    documents("documents that are not UTF-8", b"\xff\xfea\0", "not UTF-8", 2),
    documents("no document", " \n\n", "holds no document", 2),
    Case("Text", "a query of 10,000 words", ["rank", "--model", "model", "--query", "fever " * 10_000, "--documents",
         "docs.txt"], r"Raise max_length \(--max-length\) or shorten the query"),
    Case("Text", "documents in a folder of a model", RANK.replace("docs.txt", "model"), "is a folder of a model"),
    Case("Text", "documents in a folder", RANK.replace("docs.txt", "docs"), "docs: 1 documents, each as it is", 0, make("docs/one.txt"), shows="a thesis"),
    Case("Text", "a folder without a text", RANK.replace("docs.txt", "docs"), "docs holds no text", prepare=make("docs/one.docx")),
    Case("Text", "documents nowhere", RANK.replace("docs.txt", "no.txt"), "There is no file"),
]  # fmt: skip

TERMINALS = [
    Case("Terminals", "the reader is gone", RANK, "", 0, during=terminal(error=BrokenPipeError(errno.EPIPE, "gone"))),
    Case("Terminals", "the reader is gone and the result is a file", f"{RANK} --json r.json", "", 0, new=("r.json",),
         during=terminal(error=BrokenPipeError(errno.EPIPE, "gone"))),
    Case("Terminals", "a code page without Chinese", RANK, "糖尿病", 0, prepare=write("docs.txt", "糖尿病\nfever\n"),
         during=terminal(encoding="cp1252")),
    Case("Terminals", "plain ASCII", RANK, "é", 0, prepare=write("docs.txt", "é\nfever\n"), during=terminal(encoding="ascii")),
    Case("Terminals", "no colours and no terminal", RANK, r"^[^\x1b]+$", 0, during=environment(NO_COLOR="1", TERM="dumb")),
]  # fmt: skip

STAGES = {
    "the files are read": ("course_utils.data.read_groups", ()),
    "the model is loaded": ("course_utils.model.Reranker.load", ()),
    "the start is measured": ("course_utils.evaluation.evaluate", ()),
    "states are cached": ("course_utils.training.adaptation._cache_states", (r"out/work/.*",)),
    "it trains": ("course_utils.training.adaptation._run", (r"out/work/.*",)),
    "the model is saved": ("course_utils.model.reranker.Reranker.save", (r"out/work/.*",)),
    "the result is written": ("course_utils.cli.parser.write_json", (r"out/model/.*",)),
}
KILLS = [Case("Stopped", f"while {stage}", ADAPT, "stopped by you", 130, during=raising(target, KeyboardInterrupt), new=new)
         for stage, (target, new) in STAGES.items()]  # fmt: skip


def locked():
    """Hold the folder as a second run would."""
    from course_utils.files import lock

    return lock(Path("out"))


ELSEWHERE = [
    Case("Two runs", "into one folder", ADAPT, "Another run is writing", during=locked, new=(r"out/.*lock",)),
    Case("Memory", "short in Python", EVALUATE, "Memory is short", during=raising("course_utils.evaluation.evaluate", MemoryError)),
    Case("Memory", "short in torch", EVALUATE, "Memory is short",
         during=raising("course_utils.evaluation.evaluate", RuntimeError("DefaultCPUAllocator: can't allocate memory"))),
    Case("Memory", "short on a GPU", EVALUATE, "Memory is short",
         during=raising("course_utils.evaluation.evaluate", RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))),
    Case("Network", "none, for a model of the hub", RANK.replace("model model", "model Qwen/Qwen3-Reranker-0.6B"), "HF_HUB_OFFLINE",
         during=environment(HF_HUB_OFFLINE="1")),
    Case("The program itself", "an error that nobody foresaw", EVALUATE, "The details are in .*txt",
         during=raising("course_utils.evaluation.evaluate", KeyError("x"))),
]  # fmt: skip

CASES = [*DATA, *LEAKS, *OPTIONS, *OUTPUTS, *DISKS, *MODELS, *TEXT, *TERMINALS, *KILLS, *ELSEWHERE]
