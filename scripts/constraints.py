"""Write constraints.txt: the exact versions in this environment of everything the package and its extras need.

.venv/bin/python scripts/constraints.py
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def needed():
    """Return {name: version} of the transitive needs of pyproject.toml's dependencies and extras, as installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = project["name"]
    waiting = [Requirement(r) for r in project["dependencies"]]
    waiting += [Requirement(r) for extra in project["optional-dependencies"].values() for r in extra]
    found, seen = {}, set()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = (name, tuple(sorted(requirement.extras)))
        if name == own or key in seen:
            continue
        seen.add(key)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = distribution.version.split("+")[0]
        for line in distribution.requires or []:
            need = Requirement(line)
            extras = requirement.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(need)
    return found


if __name__ == "__main__":
    head = "# Exact versions that continuous integration ran with; made by scripts/constraints.py.\n"
    lines = [f"{name}=={version}\n" for name, version in sorted(needed().items())]
    (ROOT / "constraints.txt").write_text(head + "".join(lines), encoding="utf-8")
    print(f"{len(lines)} packages")
