"""Base forms: NLTK's data are found or fetched whole, told where they lack, and hold no pickle."""

import hashlib
import http.server
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from functools import partial
from pathlib import Path

import nltk.data
import nltk.downloader
import pytest

from irlib import store
from irlib.scores import chair, lemmas

# A language of our own of a dozen words, in the files that NLTK reads
TAGS = {
    **{"skies": "NNS", "cars": "NNS", "manes": "NNS", "persons": "NNS", "seat": "NN", "a": "DT"},
    **{"cares": "VBZ", "seated": "VBN", "skis": "NNS", "men": "NNS", "on": "IN", ".": "."},
}
NOUNS = "car care mane men person seat ski sky".split()
VERBS = "care seat ski".split()
TAGGER = "averaged_perceptron_tagger_eng"


def index(words, kind):
    return [f"{word} {kind} 1 0 1 0 {i:08d}" for i, word in enumerate(words, 1)]


FILES = {
    "tokenizers/punkt_tab/english/abbrev_types.txt": ["e.g"],
    "tokenizers/punkt_tab/english/collocations.tab": ["a\tb"],
    "tokenizers/punkt_tab/english/ortho_context.tab": ["a\t32", "b\t32"],
    "tokenizers/punkt_tab/english/sent_starters.txt": ["however"],
    f"taggers/{TAGGER}/{TAGGER}.classes.json": sorted(set(TAGS.values())),
    f"taggers/{TAGGER}/{TAGGER}.tagdict.json": TAGS,
    f"taggers/{TAGGER}/{TAGGER}.weights.json": {"bias": {"NN": 1.0}},
    "corpora/wordnet/index.noun": index(NOUNS, "n"),
    "corpora/wordnet/index.verb": index(VERBS, "v"),
    "corpora/wordnet/index.adj": index(["open"], "a"),
    "corpora/wordnet/index.adv": index(["well"], "r"),
    "corpora/wordnet/index.sense": [f"{w}%1:00:00:: {i:08d} 1 0" for i, w in enumerate(NOUNS, 1)],
    "corpora/wordnet/data.adj": ["  1 WordNet 3.0 Copyright", "00000001 00 a 01 open 0 000 | so"],
    "corpora/wordnet/noun.exc": ["oxen ox"],
    "corpora/wordnet/verb.exc": ["sat sit"],
    "corpora/wordnet/adj.exc": ["best good"],
    "corpora/wordnet/adv.exc": ["best well"],
    "corpora/wordnet/lexnames": ["00\tadj.all\t3"],
}
COUNTED = {
    package: (
        place,
        {
            file: None if wanted is None else sum(line[:2] != "  " for line in FILES[name])
            for file, wanted in files.items()
            for name in [f"{place}/{file}"]
        },
    )
    for package, (place, files) in lemmas.PACKAGES.items()
}


def lay(folder: Path) -> Path:
    """Lay our language out as NLTK's data are."""
    for name, told in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(told) if name.endswith(".json") else "\n".join(told) + "\n"
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def places(monkeypatch) -> list[str]:
    """Where NLTK looks, for one test; it counts the entries of our own language."""
    monkeypatch.setattr(lemmas, "PACKAGES", COUNTED)
    monkeypatch.setattr(nltk.data, "path", [])
    lemmas._tools.cache_clear()
    yield nltk.data.path
    lemmas._tools.cache_clear()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server of our own with the three packages: its folder and its index's address."""
    made, root = tmp_path / "site", lay(tmp_path / "made")
    made.mkdir()
    for package, (place, _) in COUNTED.items():
        with zipfile.ZipFile(made / f"{package}.zip", "w") as file:
            for path in sorted((root / place).rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to((root / place).parent))
    # NLTK's own way to an address refuses those of this machine
    monkeypatch.setattr(nltk.downloader, "urlopen", urllib.request.urlopen)
    handler = partial(QuietFiles, directory=made)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        rows = []
        for package, (place, files) in COUNTED.items():
            data = (made / f"{package}.zip").read_bytes()
            size = sum((root / place / file).stat().st_size for file in files)
            rows.append(
                f'<package id="{package}" name="{package}" subdir="{Path(place).parent}" unzip="0" '
                f'size="{len(data)}" unzipped_size="{size}" url="{address}/{package}.zip" '
                f'checksum="{hashlib.md5(data).hexdigest()}" '
                f'sha256_checksum="{hashlib.sha256(data).hexdigest()}"/>'
            )
        told = f"<nltk_data><packages>{''.join(rows)}</packages><collections/></nltk_data>"
        (made / "index.xml").write_text(told)
        yield made, f"{address}/index.xml"
        server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, *_):
        pass


def test_words_are_tagged_and_reduced_by_wordnet(tmp_path):
    """In a process of its own: NLTK keeps the first WordNet that it reads."""
    code = (
        "import json, sys; from irlib.scores import chair, lemmas\n"
        "lemmas.PACKAGES = json.loads(sys.argv[1])\n"
        "table = chair.Words((('person',), ('car',), ('chair', 'seat'), ('skis', 'ski')))\n"
        "for text in json.loads(sys.argv[2]):\n"
        "    print(json.dumps([lemmas.base_forms(text), chair.mentions(text, table)]))\n"
    )
    cases = {
        "Skies. Cars.": [["sky", ".", "car", "."], ["car"]],
        "cares manes": [["care", "mane"], []],
        "Persons seated on a seat": [
            ["person", "seat", "on", "a", "seat"],
            ["person"] + 2 * ["chair"],
        ],
        "skis men": [["ski", "men"], ["skis"]],
        "": [[], []],
    }
    env = os.environ | {"NLTK_DATA": str(lay(tmp_path)), "PYTHONPATH": str(store.root())}
    command = [sys.executable, "-c", code, json.dumps(COUNTED), json.dumps(list(cases))]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in told.stdout.splitlines()] == list(cases.values())


def test_data_that_are_there_are_found_folder_or_archive(tmp_path, places, site):
    places.append(str(lay(tmp_path / "there")))
    lemmas.fetch(tmp_path / "coco", index="http://127.0.0.1:9/none.xml")
    places[:] = [str(tmp_path / "zipped")]
    for package, (place, _) in COUNTED.items():
        (tmp_path / "zipped" / place).parent.mkdir(parents=True)
        shutil.copy(site[0] / f"{package}.zip", tmp_path / "zipped" / f"{place}.zip")
    lemmas.fetch(tmp_path / "coco", index="http://127.0.0.1:9/none.xml")
    assert not (tmp_path / "coco").exists()


def test_data_are_fetched_once_and_into_the_folder_alone(tmp_path, places, site, capfd):
    made, address = site
    before = {path for path in tmp_path.rglob("*") if "coco" not in path.parts}
    lemmas.fetch(tmp_path / "coco", index=address)
    there = {p.relative_to(tmp_path / "coco").as_posix() for p in (tmp_path / "coco").rglob("*.*")}
    assert {name for name in FILES if Path(name).suffix} <= there
    assert not any(name.endswith((".zip", ".tmp", ".lock")) for name in there)
    assert (
        sorted(p.name for p in (tmp_path / "coco").iterdir())
        == "corpora taggers tokenizers".split()
    )
    assert {path for path in tmp_path.rglob("*") if "coco" not in path.parts} == before
    assert places == [str(tmp_path / "coco")]
    shutil.rmtree(made)
    lemmas.fetch(tmp_path / "coco", index=address)
    assert capfd.readouterr() == ("", "")


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, places, site):
    (site[0] / "wordnet.zip").unlink()
    with pytest.raises(
        ConnectionError, match=r"no corpora/wordnet/index.noun; NLTK's downloader did"
    ):
        lemmas.fetch(tmp_path / "coco", index=site[1])
    assert not list((tmp_path / "coco").iterdir())


@pytest.mark.parametrize("name", FILES)
def test_a_set_that_lacks_a_part_is_not_taken_for_whole(tmp_path, places, site, name):
    folder = lay(tmp_path / "coco")
    places.append(str(folder))
    assert not lemmas._lacking()
    data = (folder / name).read_bytes()
    lines = data.splitlines(keepends=True)
    half = data[:-2] if name.endswith(".json") else b"".join(lines[:-1])
    more = b"".join([*lines, *lines])  # another release
    nothing = b"{}" if name.endswith(".json") else b"\n"
    for broken in (half, more, nothing, b"", None):
        (folder / name).unlink()
        if broken is not None:
            (folder / name).write_bytes(broken)
        with pytest.raises(LookupError, match=rf"NLTK's data for base forms; found .*{name}"):
            lemmas.base_forms("A car.")
    lemmas.fetch(folder, index=site[1])
    assert (folder / name).read_text().strip() == data.decode().strip()


def test_a_broken_set_that_comes_first_is_named_even_after_a_download(tmp_path, places, site):
    mine = lay(tmp_path / "mine")
    (mine / "corpora/wordnet/noun.exc").write_text("")
    places.append(str(mine))
    with pytest.raises(
        ConnectionError,
        match=r"0 entries in .*mine.*noun.exc.*, where 1 belong; .*an"
        r"other place comes first",
    ):
        lemmas.fetch(tmp_path / "coco", index=site[1])


def test_data_that_cannot_be_fetched_are_told_with_what_to_put_where(tmp_path, places):
    with pytest.raises(ConnectionError) as told:
        lemmas.fetch(tmp_path / "coco", index="http://127.0.0.1:9/index.xml")
    for word in (
        "no tokenizers/punkt_tab/english", f"taggers/{TAGGER}", "corpora/wordnet",
        f"into {tmp_path}/coco", "NLTK_DATA", "wordnet-base and wordnet-sense-index", chair.LISTED,
    ):  # fmt: skip
        assert word in str(told.value)


def test_a_folder_that_others_can_write_is_told(tmp_path, places):
    folder = lay(tmp_path / "coco")
    folder.chmod(0o775)
    places.append(str(folder))
    with pytest.raises(LookupError, match=r"refused, writable by other accounts.*chmod go-w"):
        lemmas.base_forms("A car.")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_read(tmp_path, places):
    folder, trap = lay(tmp_path / "coco"), pickle.dumps(Trap(tmp_path / "sprung"))
    shutil.rmtree(folder / "tokenizers/punkt_tab")
    shutil.rmtree(folder / f"taggers/{TAGGER}")
    old = (
        f"taggers/{TAGGER[:-4]}/{TAGGER[:-4]}",
        "tokenizers/punkt/english",
        "tokenizers/punkt/PY3/english",
    )
    new = f"taggers/{TAGGER}/{TAGGER}", "tokenizers/punkt_tab/english/english"
    for name in (*old, *new):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.pickle").write_bytes(trap)
    places.append(str(folder))
    with pytest.raises(LookupError, match=rf"no tokenizers/punkt_tab.*no taggers/{TAGGER}/"):
        lemmas.base_forms("A car.")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("version", ["3.8.1", "3.8", "2.0.5"])
def test_an_nltk_that_unpickles_its_models_is_refused(monkeypatch, version):
    monkeypatch.setattr(nltk, "__version__", version)
    with pytest.raises(ImportError, match=rf"found NLTK {version}, which unpickles"):
        lemmas.base_forms("A car.")
