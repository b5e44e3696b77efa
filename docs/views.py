"""Save the explorer's view of one question of each task, with all its panels, for each model named:
`python docs/views.py MODEL ...`. The pages move without a kernel; conf.py takes them into the site.
"""

import sys

from irlib import Sample, explore, load, load_task, store
from irlib.tasks import TASKS


def main(*models: str) -> None:
    home = store.results() / "site/views"
    home.mkdir(parents=True, exist_ok=True)
    for path in home.glob("*.html"):
        path.unlink()
    for name in models:
        vlm = load(name)
        for task in TASKS:
            view = explore(vlm, question(task))
            for panel in ("routes", "faithful"):
                view.session.hear({"do": panel}).join()
                if view.status["error"]:
                    raise RuntimeError(f"{name}, {task}, {panel}: {view.status['error']}")
            view.save(home / f"{name}-{task}.html")


def question(task: str) -> Sample:
    """Return a task's first row about something that has a place, or else about a picture."""
    rows = [sample for sample in load_task(task) if sample.image is not None]
    return next((sample for sample in rows if sample.boxes), rows[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
