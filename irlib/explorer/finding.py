"""What a page asks about: a row of a task, or a picture and a question of the reader's own."""

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from irlib import doors
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import check_head, open_picture
from irlib.tasks.protocols import TASKS
from irlib.tasks.samples import Sample


class Found(NamedTuple):
    """A sample, its `place` (task, row, number of rows) in a task or None, and how Python says its
    picture and itself."""

    sample: Sample
    place: tuple[str, int, int] | None = None
    image: str = "None"
    inputs: str = ""


class Finder:
    """The samples that a page can name, those of the tasks in `source` by number."""

    def __init__(self, source: str = "bundled"):
        self.source, self._rows = source, {}

    def row(self, task: object, row: object) -> Found:
        """Row number `row` of a task, beyond the last the first again; ValueError for no task."""
        if task not in TASKS:
            raise ValueError(f"asked for the task {task!r}, found none; use one of {list(TASKS)}")
        if task not in self._rows:
            self._rows[task] = load_task(task, source=self.source)
        rows = self._rows[task]
        row = (row if isinstance(row, int) else 0) % len(rows)
        return self.given(rows[row])._replace(place=(task, row, len(rows)))

    def given(self, sample: Sample) -> Found:
        """A sample that is there already."""
        if sample.task not in TASKS:
            image = "None" if sample.image is None else repr(sample.key)
            return Found(sample, None, image, f"{image}, {sample.question!r}")
        source = "" if self.source == "bundled" else f", source={self.source!r}"
        row = f"load_task({sample.task!r}, keys=[{sample.key!r}]{source})[0]"
        return Found(sample, None, f"{row}.image", row)

    def own(self, told: Mapping, before: Found | None = None) -> Found:
        """A `question` about an upload (`name`, base64 `data`), a `path`, or the picture before.

        Raises ValueError for no question and for a picture that is broken, FileNotFoundError where
        there is none.
        """
        question = told.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ValueError("asked nothing, found no word; write a question and press Ask")
        name, place = "picture", None
        if data := told.get("data"):
            name = str(told.get("name") or "upload")
            picture, image = _decoded(name, data), repr(name)
        elif path := str(told.get("path") or "").strip():
            file, image = doors.path("picture", path), repr(path)
            if file.exists() and not file.is_file():  # a pipe would let the view wait for ever
                raise ValueError(f"asked about the picture {path!r}, found no file; give a file")
            picture = open_picture(file)
            name = path.replace("\\", "/").rpartition("/")[2]
        elif before is None or told.get("bare"):
            picture, image = None, "None"
        else:
            picture, image = before.sample.image, before.image
            name, place = before.sample.key, before.place
        sample = Sample(
            task="user", key=name, question=question, prompt=question, image=picture, reference={}
        )
        return Found(sample, place, image, f"{image}, {question!r}")


def _decoded(name: str, data: object):
    """The picture in an upload."""
    try:
        encoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(
            f"asked about the upload {name!r}, found no whole file; upload it again"
        ) from error
    check_head(encoded, whose=name)
    return open_picture(encoded, whose=name)
