"""What a page asks about: a row of a task, or a picture and a question of the reader's own."""

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from irlib import doors
from irlib.explorer import lines
from irlib.explorer.lines import Said
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import check_head, identify, open_picture, short
from irlib.tasks.protocols import TASKS
from irlib.tasks.samples import Sample


class Found(NamedTuple):
    """A sample, how Python says it, and its `place` in a task (task, row, number of rows)."""

    sample: Sample
    said: Said
    place: tuple[str, int, int] | None = None


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
        found = rows[row]
        return Found(found, lines.of_row(found, self.source), (task, row, len(rows)))

    def given(self, sample: Sample) -> Found:
        """A sample that is there already: a task's row where load_task gives the same one."""
        same = sample.task in TASKS and self._same(sample)
        return Found(sample, lines.of_row(sample, self.source) if same else lines.of_sample(sample))

    def _same(self, sample: Sample) -> bool:
        """Whether the source has this row of its task, in these words, with this picture."""
        try:
            (row,) = load_task(sample.task, keys=[sample.key], source=self.source)
        except (ValueError, OSError):
            return False
        told = [(one.prompt, one.max_new_tokens, one.boxes) for one in (row, sample)]
        return told[0] == told[1] and identify(row.image) == identify(sample.image)

    def own(self, told: Mapping, before: Found | None = None) -> Found:
        """A `question` about an upload (`name`, base64 `data`), a `path`, or the picture before.

        Raises ValueError for no question and for a picture that is broken, FileNotFoundError where
        there is none.
        """
        question = told.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ValueError("asked nothing, found no word; write a question and press Ask")
        name, place = "picture", None
        if any("\ud800" <= letter <= "\udfff" for letter in question):
            raise ValueError(
                f"asked {short(ascii(question))}, found half a letter in it; write it anew"
            )
        if (data := told.get("data")) is not None:
            name = str(told.get("name") or "upload")
            picture, said = _decoded(name, data), lines.of_upload(name, question)
        elif path := str(told.get("path") or "").strip():
            file, said = doors.path("picture", path), lines.of_path(path, question)
            if file.exists() and not file.is_file():  # a pipe would let the view wait for ever
                raise ValueError(f"asked about the picture {path!r}, found no file; give a file")
            picture = open_picture(file)
            name = path.replace("\\", "/").rpartition("/")[2]
        elif before is None or told.get("bare"):
            picture, said = None, lines.Said("None", f"None, {question!r}")
        else:
            picture, said = before.sample.image, before.said.about(question)
            name, place = before.sample.key, before.place
        sample = Sample(
            task="user", key=name, question=question, prompt=question, image=picture, reference={}
        )
        return Found(sample, said, place)


def _decoded(name: str, data: object):
    """The picture in an upload."""
    try:
        encoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise ValueError(
            f"asked about the upload {name!r}, found no whole file; upload it again"
        ) from error
    if not encoded:
        raise ValueError(f"asked about the upload {name!r}, found it empty; choose another file")
    check_head(encoded, whose=name)
    return open_picture(encoded, whose=name)
