"""One process, one engine: reads a job as JSON, scores its lists, prints times and scores as the last line of its output."""

import importlib
import json
import os
import sys
import time


def work(job):
    """Return what one engine did: version, seconds to start, the load before, times and scores of each list, peak memory.

    Args:
        job: dict of engine (a module of this package), kind, folder of the model, work (folder for converted files),
            threads, lists {title: [query, [document, ...]]} and repeats.
    """
    import numpy as np
    import torch

    from benchmarks.common import quiet
    from course_utils.machine import peak_memory_mb

    quiet()
    torch.set_num_threads(job["threads"])
    module = importlib.import_module(f"benchmarks.engines.{job['engine']}")
    begun = time.perf_counter()
    score, version = module.start(job["folder"], job["kind"], job["work"])
    out = {"version": version, "start": time.perf_counter() - begun, "load": os.getloadavg()[0], "scores": {}}
    out |= {"seconds": {title: [] for title in job["lists"]}, "cpu": {title: [] for title in job["lists"]}}
    for title, (query, documents) in job["lists"].items():
        small = documents if job["repeats"] > 1 else documents[:2]
        score(query, small)  # the first call of a shape is slower everywhere
        for _ in range(job["repeats"]):
            begun, used = time.perf_counter(), time.process_time()
            found = np.asarray(score(query, documents), dtype=np.float64)
            out["seconds"][title].append(time.perf_counter() - begun)
            out["cpu"][title].append(time.process_time() - used)
            out["scores"][title] = [round(float(s), 6) for s in found]
    return {**out, "peak_mb": peak_memory_mb()}


def main():
    """Read the job from standard input; write the result to the file that it names; return 0, 3 where a package is missing."""
    job = json.load(sys.stdin)
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    try:
        result = work(job)
    except ImportError as error:
        print(error.name or error, file=sys.stderr)
        return 3
    with open(job["out"], "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(result, file)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # some engines hang when their threads are taken down
