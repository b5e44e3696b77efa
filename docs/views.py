"""Save the explorer's view of one question of each task, for models that are there:
`python docs/views.py FOLDER MODEL ...`. The pages move without a kernel.
"""

import sys
from pathlib import Path

from irlib import explore, load, load_task
from irlib.tasks import TASKS


def main(folder: str, *models: str) -> None:
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    for path in home.glob("*.html"):
        path.unlink()
    for name in models:
        vlm = load(name)
        for task in TASKS:
            (sample,) = load_task(task, n=1, kind="image" if task == "scienceqa" else None)
            explore(vlm, sample).save(home / f"{name}-{task}.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
