"""Print constraints.txt with the oldest release that pyproject.toml allows of packages named."""

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
asked = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
floors = dict(text.split(">=") for text in asked)
for line in (PROJECT / "constraints.txt").read_text().splitlines():
    name = line.split("==")[0]
    sys.stdout.write(f"{name}=={floors[name]}\n" if name in sys.argv[1:] else f"{line}\n")
