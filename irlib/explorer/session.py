"""A conversation with one model: what a page asks for, done in the background, one thing at a time.

A `Session` knows nothing of widgets or servers: it hears messages and tells panels by name.
"""

import logging
import secrets
import threading
import warnings
from collections.abc import Callable

from irlib.explorer import reading
from irlib.explorer.finding import Finder, Found
from irlib.explorer.lines import bundled
from irlib.explorer.maps import attention_rows
from irlib.hooks.stopping import Stopped, stopping
from irlib.store import provenance
from irlib.tasks.protocols import TASKS

log = logging.getLogger(__name__)

ONE_AT_A_TIME = threading.Lock()  # hooks and transformers' registry are the process's
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError)


class Session:
    """Panels of one question to one model, told by `tell(name, panel)` as each is computed.

    `ask` puts a question, `hear` takes a page's message; a new question ends what the old one still
    computes. What goes wrong is told in the panel "status", and the panels before it stay.
    """

    def __init__(self, vlm, tell: Callable[[str, dict], None], *, source: str = "bundled"):
        self.vlm, self._tell, self.finder = vlm, tell, Finder(source)
        self._over, self._number = threading.Event(), ""
        self._over.set()
        self._panels: dict[str, dict] = {}
        self._picks: dict[tuple[int, ...], dict] = {}
        self._found = self._read = self._model = None  # `_read`: inputs, answer, attention
        self._running = self._asking = None  # the ends of what runs and of a question not answered

    def hear(self, message: dict) -> threading.Thread | None:
        """Do what a page asks for, and return the thread that does it.

        {"do": "row" (`task`, `row`) | "own" (`question`, and `path` or `name` and `data`) | "words"
        (`picked`) | "routes" | "faithful" | "cancel"}; anything else is told in the status. What is
        asked of an answer (of the `number` in its panels) that another question takes the place of
        is left.
        """
        told = message if isinstance(message, dict) else {}
        jobs = {
            "row": lambda: self._question(self.finder.row(told.get("task"), told.get("row"))),
            "own": lambda: self._question(self.finder.own(told, self._found)),
            "words": lambda: self._words(told.get("picked")),
            "routes": lambda: self._panel("routes", "cutting routes", reading.routes),
            "faithful": lambda: self._panel("faithful", "measuring the maps", reading.faithful),
        }
        do = told.get("do")
        asks = do in ("row", "own")
        if do == "cancel":
            return self._over.set()
        if not isinstance(do, str) or do not in jobs:
            return self._status(error=f"asked to do {do!r}, found no such thing to do")
        if not asks and (self._asking or told.get("number", self._number) != self._number):
            return None
        return self._later(jobs[do], asks=asks)

    def ask(self, find: Callable[[Finder], Found], *, wait: bool = True) -> threading.Thread | None:
        """Ask what is found, and `wait` for all panels or leave it to a thread."""
        return self._later(lambda: self._question(find(self.finder)), wait=wait, asks=True)

    def known(self) -> dict:
        """The panels of the question that is shown; `picks` those of the words picked so far."""
        return {**self._panels, "picks": list(self._picks.values())}

    def read(self) -> tuple:
        """The inputs and the answer that are shown; ValueError where there are none."""
        return self._answered("what was read")[:2]

    def pick_each(self) -> None:
        """Have the maps of each single word ready; ValueError where there is no answer yet."""
        self._answered("the maps of each word")
        for place in range(len(self._panels["asked"]["words"])):
            self._later(lambda place=place: self._words([place]), wait=True)
        self._later(lambda: self._words([]), wait=True)

    def _later(
        self, job: Callable[[], None], *, wait: bool = False, asks: bool = False
    ) -> threading.Thread | None:
        self._over.set()  # what is being computed for the question before
        self._over = over = threading.Event()
        if asks:
            self._asking = over
        work = threading.Thread(target=self._work, args=(job, over), name="explorer", daemon=True)
        if wait:
            return self._work(job, over)
        work.start()
        return work

    def _work(self, job: Callable[[], None], over: threading.Event) -> None:
        error = note = ""
        with ONE_AT_A_TIME:
            self._running = over
            try:
                with stopping(over.is_set), warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    if over.is_set():
                        raise Stopped("before it began")
                    self._status(busy="reading the question")
                    job()
                    self._strip()  # which a pick of words ended, where it was not told yet
                kinds = (UserWarning, RuntimeWarning)
                said = [str(one.message) for one in said if issubclass(one.category, kinds)]
                note = "\n".join(dict.fromkeys([*self.beyond(), *said]))
            except Stopped:
                note = "stopped"
            except KeyboardInterrupt:  # of who waits for it, in a notebook
                note = "stopped"
                raise
            except Exception as wrong:  # whatever it is: the view must not wait for ever
                known = isinstance(wrong, EXPECTED)
                log.log(logging.DEBUG if known else logging.ERROR, "not done", exc_info=True)
                kind = "" if known and str(wrong) else f"{type(wrong).__name__}: "
                error = f"{kind}{wrong}"
            finally:
                self._answers(over)
                if over is self._over:  # else the next one tells how it goes
                    over.set()
                    self._status(error=error, note=note)

    def _question(self, found: Found) -> None:
        if (count := len(found.sample.images)) > 1:
            raise ValueError(
                f"asked about {count} pictures at once, found that a view shows one; ask about one "
                "of them, or take llava_cam and truncate with inputs.picture(0)"
            )
        inputs = self.vlm.prepare(found.sample)
        self._status(busy="answering", part=0.1)
        answer = self.vlm.answer(inputs)
        if not answer.spoken:
            raise ValueError(
                f"asked {found.sample.question!r}, found that the model ended at once and said "
                "nothing; ask another question"
            )
        attention = attention_rows(self.vlm, inputs, answer)
        asked = reading.asked(self.vlm, inputs, answer, self._made_of(), said=found.said)
        if self._running.is_set():
            raise Stopped("before it was told")
        self._answers(self._running)
        self._panels, self._picks, self._number = {}, {}, secrets.token_hex(6)
        self._found, self._read = found, (inputs, answer, attention)
        self._publish("asked", asked | {"place": found.place})
        self._words(())

    def _strip(self) -> None:
        if self._read is not None and "strip" not in self._panels:
            self._panel("strip", "hiding the picture", reading.strip, part=0.6)

    def _answers(self, over: threading.Event) -> None:
        """The question that this is the end of is pending no more."""
        if self._asking is over:
            self._asking = None

    def _words(self, picked) -> None:
        inputs, answer, attention = self._answered("the maps of words")
        picked, words = set(picked or ()), set(range(len(self._panels["asked"]["words"])))
        if not picked <= words:
            raise ValueError(f"asked for the words {picked}, found no such words in this answer")
        picked = () if picked == words else tuple(sorted(picked))
        if picked not in self._picks:
            self._status(busy="maps of every layer", part=0.3)
            made = reading.shown(self.vlm, inputs, answer, attention, picked=picked)
            self._picks[picked] = made | {"number": self._number}
        self._panels["shown"] = self._picks[picked]
        self._tell("shown", self._picks[picked])

    def _panel(self, name: str, busy: str, compute: Callable, *, part: float = 0.3) -> None:
        inputs, answer, _ = self._answered(name)
        if name not in self._panels:
            self._status(busy=busy, part=part)
            self._publish(name, compute(self.vlm, inputs, answer))
        else:
            self._tell(name, self._panels[name])

    def _answered(self, what: str) -> tuple:
        if self._read is None:
            raise ValueError(f"asked for {what}, found no answer yet; ask a question first")
        return self._read

    def _made_of(self) -> dict:
        if self._model is None:
            self._model = {"name": self.vlm.name, "sha256": provenance.model(self.vlm)}
        return self._model

    def beyond(self) -> list[str]:
        """What must be known of a picture that the model was not made for."""
        found, name = self._found, self.vlm.name
        if not bundled(name) or found is None or found.place or found.sample.reference:
            return []
        if found.sample.image is None:
            return []
        return [
            f"{name} was trained on the bundled drawings alone: of another picture its answer says "
            "little, and the maps show what it did with it"
        ]

    def _publish(self, name: str, panel: dict) -> None:
        self._panels[name] = panel | {"number": self._number}
        self._tell(name, self._panels[name])

    def _status(
        self, *, busy: str = "", part: float = 0.0, error: str = "", note: str = ""
    ) -> None:
        told = {"busy": busy, "part": part, "error": error, "note": note, "tasks": list(TASKS)}
        self._tell("status", told)
