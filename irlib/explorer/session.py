"""A conversation with one model: what a page asks for, done in the background, one thing at a time.

A `Session` knows nothing of widgets or servers: it is told messages and tells panels by name.
"""

import base64
import binascii
import io
import logging
import threading
import warnings
from collections.abc import Callable

from irlib import store
from irlib.evidence.rulers import faithfulness
from irlib.explorer import reading
from irlib.explorer.maps import attention_rows
from irlib.explorer.packing import numbers
from irlib.hooks.stopping import Stopped, stopping
from irlib.store import provenance
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import check_head, open_picture
from irlib.tasks.protocols import TASKS
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

PANELS = ("asked", "shown", "strip", "routes", "faithful", "status", "tasks")
ONE_AT_A_TIME = threading.Lock()  # hooks and transformers' registry are the process's
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError)


class Session:
    """Panels of one question to one model, told by `tell(name, panel)` as each is computed.

    `ask` puts a question, `hear` takes a page's message; a new question ends what the old one still
    computes. What goes wrong is told in the panel "status", and the panels before it stay.
    """

    def __init__(self, vlm, tell: Callable[[str, dict], None], *, source="bundled"):
        self.vlm, self._tell, self.source = vlm, tell, source
        self._rows, self._told, self._sizes = {}, {}, {}
        self._over, self._thread, self._number = threading.Event(), None, 0
        self._asked = None  # inputs, answer, attention of the question that is shown
        self._names = tuple(TASKS) if source in ("bundled", "held") else ()

    def hear(self, message: dict) -> threading.Thread | None:
        """Do what a page asks for: {"do": "row" | "own" | "words" | "routes" | "faithful" |
        "cancel"}; what is no such thing is told in the status."""
        message = message if isinstance(message, dict) else {}
        ways = {
            "row": lambda: self.ask(lambda: self._row(message.get("task"), message.get("row", 0))),
            "own": lambda: self.ask(lambda: self._own(message)),
            "words": lambda: self._later(lambda: self._words(message.get("picked"))),
            "routes": lambda: self._later(lambda: self._panel("routes", reading.routes)),
            "faithful": lambda: self._later(self._faithful),
            "cancel": self.cancel,
        }
        if (do := message.get("do")) not in ways:
            return self._status(error=f"asked to do {do!r}, found no such thing to do")
        return ways[do]()

    def ask(self, find: Callable[[], tuple], *, wait: bool = False) -> threading.Thread | None:
        """Ask what `find()` gives, a sample and its (task, row) or None; `wait` until it is told."""
        return self._later(lambda: self._question(*find()), wait=wait)

    def cancel(self) -> None:
        """End what is being computed; what has been told stays."""
        self._over.set()

    def known(self) -> dict[str, dict]:
        """The panels of the question that is shown, and the words picked so far."""
        picks = [self._told[key] for key in sorted(k for k in self._told if isinstance(k, tuple))]
        return {**{k: v for k, v in self._told.items() if isinstance(k, str)}, "picks": picks}

    def _later(self, job: Callable[[], None], *, wait: bool = False) -> threading.Thread | None:
        self._over.set()  # the job before this one
        self._over = over = threading.Event()

        def work():
            with ONE_AT_A_TIME:
                self._work(job, over)

        if wait:
            return work()
        self._thread = threading.Thread(target=work, name="irlib explorer", daemon=True)
        self._thread.start()
        return self._thread

    def _work(self, job, over) -> None:
        if over.is_set():
            return
        told = {"error": ""}
        try:
            with stopping(over.is_set), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                self._status(busy="reading the question")
                job()
            told["note"] = " ".join(dict.fromkeys(str(one.message) for one in said))
        except Stopped:
            told["note"] = "stopped"
        except EXPECTED as error:
            log.debug("explorer", exc_info=True)
            told["error"] = str(error) or type(error).__name__
        if not over.is_set() or told.get("note") == "stopped":
            self._status(**told)

    def _question(self, sample: Sample, place: tuple[str, int] | None) -> None:
        vlm = self.vlm
        inputs = vlm.prepare(sample)
        self._status(busy="answering", part=0.1)
        answer = vlm.answer(inputs)
        if not answer.spoken:
            raise ValueError(
                f"asked {sample.question!r}, found that the model ended at once and said nothing; "
                "ask another question"
            )
        model = self._model()
        asked = reading.asked(vlm, inputs, answer, model) | {"place": place}
        self._number += 1
        self._told, self._asked = {}, (inputs, answer, attention_rows(vlm, inputs, answer))
        self._publish("asked", asked)
        self._status(busy="maps of every layer", part=0.3)
        self._words(())
        self._status(busy="hiding the picture", part=0.6)
        self._panel("strip", reading.strip)

    def _words(self, picked) -> None:
        if self._asked is None:
            raise ValueError("asked for the maps of words, found no answer yet; ask a question")
        inputs, answer, attention = self._asked
        picked = tuple(sorted(set(picked or ())))
        if not set(picked) <= set(range(len(self._told["asked"]["words"]))):
            raise ValueError(f"asked for the words {picked}, found no such words in this answer")
        if picked not in self._told:
            self._status(busy="maps of every layer", part=0.3)
            self._told[picked] = self._marked(
                reading.shown(self.vlm, inputs, answer, attention, picked=picked)
            )
        self._tell("shown", self._told[picked])

    def _panel(self, name: str, compute: Callable) -> None:
        if self._asked is None:
            raise ValueError(f"asked for the {name}, found no answer yet; ask a question")
        if name not in self._told:
            self._status(busy={"routes": "cutting routes"}.get(name, "hiding the picture"), part=0.5)
            self._publish(name, compute(self.vlm, *self._asked[:2]))
        else:
            self._tell(name, self._told[name])

    def _faithful(self) -> None:
        """How likely the answer is with each map's highest tokens alone and without them."""
        if self._asked is None or self._asked[0].grid is None:
            raise ValueError("asked how faithful maps are, found no map; ask about a picture")
        self._status(busy="putting in and taking out what the maps rank highest", part=0.5)
        names = [f"{kind} {site}" for site in self.vlm.sites for kind in ("cam", "token")]
        boxes = ["box"] * bool(self._asked[0].samples[0].boxes)
        names += ["attention", "random", "centre", *boxes]
        if not self._asked[0].grid.views:
            raise ValueError(
                "asked how faithful maps are, found image tokens without a place on the picture"
            )
        table = faithfulness(self.vlm, self._asked[0].samples[0], names, sizes=(1 / 4,))
        rows = {row["map"]: numbers([row["inserted"], row["deleted"]])
                for row in table.to_dict("records")}  # fmt: skip
        first = table.iloc[0]
        self._publish("faithful", {
            "size": 0.25, "tokens": int(first["tokens"]), "maps": rows,
            "whole": numbers(first["whole"]), "none": numbers(first["none"]),
        })  # fmt: skip

    def _row(self, task: str, row: int) -> tuple[Sample, tuple]:
        if task not in self._names:
            raise ValueError(f"asked for the task {task!r}, found {', '.join(self._names)}")
        rows = self._of(task)
        row = int(row) % len(rows)
        return rows[row], (task, row, len(rows))

    def _of(self, task: str) -> list[Sample]:
        if task not in self._rows:
            self._rows[task] = load_task(task, source=self.source)
            self._sizes[task] = len(self._rows[task])
        return self._rows[task]

    def _own(self, message: dict) -> tuple[Sample, None]:
        """A question of the reader's own, about an upload, a path, or the picture that is shown."""
        question = message.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ValueError("asked nothing; write a question")
        image, key = self._image(message)
        boxes = ()
        if image is None and self._asked is not None and message.get("keep", True):
            shown = self._asked[0].samples[0]
            image, key, boxes = shown.image, shown.key, shown.boxes
        sample = Sample(
            task="user", key=key, question=question, prompt=question, image=image, reference={},
            boxes=boxes, max_new_tokens=min(64, self._room()),
        )  # fmt: skip
        place = self._told.get("asked", {}).get("place")
        return sample, place if image is not None and boxes else None

    def _image(self, message: dict) -> tuple[object, str]:
        if data := message.get("data"):
            name = str(message.get("name") or "upload")
            try:
                encoded = base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                raise ValueError(f"asked about {name!r}, found no whole file; try again") from error
            check_head(encoded, whose=name)
            return open_picture(encoded, whose=name), name
        if path := str(message.get("path") or "").strip():
            image = store.root() / path if path.startswith("data/") else path
            return open_picture(image), path
        return None, "picture"

    def _room(self) -> int:
        """How many tokens an answer to a question of one's own may have."""
        return 64 if self.vlm.n_layers > 12 else 32

    def _model(self) -> dict:
        if "model" not in self._sizes:
            place = self.vlm.model.name_or_path
            self._sizes["model"] = {
                "name": self.vlm.name,
                "load": self.vlm.name if "/" not in place else _loadable(self.vlm.name, place),
                "sha256": provenance.model(self.vlm),
            }
        return self._sizes["model"]

    def _publish(self, name: str, panel: dict) -> None:
        self._told[name] = self._marked(panel)
        self._tell(name, self._told[name])

    def _marked(self, panel: dict) -> dict:
        return panel | {"number": self._number}

    def _status(self, *, busy: str = "", part: float = 0.0, error: str = "", note: str = "") -> None:
        told = {"busy": busy, "part": part, "error": error, "note": note}
        self._tell("status", told | {"tasks": list(self._names)})


def _loadable(name: str, place: str) -> str:
    """What `load` takes for a model: its bundled name or hub id, a local folder by its name."""
    return place if "/" in place and not place.startswith(("/", ".", "~")) else name
