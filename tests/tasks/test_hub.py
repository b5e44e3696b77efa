"""Sets on the hub, served by a small hub of our own: one split is fetched, and found again offline.

Where the hub is, is read when its library is imported: each question runs in a process of its own.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from datasets import disable_progress_bars
from rows import lay, textvqa_rows

COMMIT = "a" * 40
ASK = """
import json, sys
from irlib import load_task
told = []
for options in json.loads(sys.argv[1]):
    try:
        told.append([sample.key for sample in load_task("textvqa", **options)])
    except (ValueError, ConnectionError) as error:
        told.append(f"{type(error).__name__}: {error}")
print(json.dumps(told))
"""
disable_progress_bars()


class Hub(http.server.BaseHTTPRequestHandler):
    """The few answers of the hub that fetching needs; old/set has moved to new/set."""

    folder: Path
    sent: list

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        if "old/set" in path:
            return self.say(b"", 307, {"Location": self.path.replace("old/set", "new/set")})
        if path in (f"api/datasets/new/set/revision/{name}" for name in ("main", COMMIT)):
            return self.say({"id": "new/set", "sha": COMMIT, "siblings": []})
        if path.startswith("api/datasets/new/set/tree/"):
            files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
            return self.say([self.entry(file) for file in files])
        file = self.folder / path.partition("/resolve/")[2].partition("/")[2]
        if path.startswith("datasets/new/set/resolve/") and file.is_file():
            if self.command == "GET":
                self.sent.append(file.name)
            told = {"ETag": f'"{self.entry(file)["oid"]}"', "X-Repo-Commit": COMMIT}
            return self.say(file.read_bytes(), 200, told)
        revision = path.startswith("api/datasets/new/set/revision/")
        code = "RevisionNotFound" if revision else "RepoNotFound"
        return self.say({"error": code}, 404, {"X-Error-Code": code})

    def entry(self, file):
        place, data = file.relative_to(self.folder).as_posix(), file.read_bytes()
        oid = hashlib.sha1(data).hexdigest()
        return {"type": "file", "path": place, "size": len(data), "oid": oid}

    def say(self, body, status=200, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def ask(tmp_path):
    """Return a function that loads TextVQA with each of the options, far from the real hub."""

    def asked(port: int, *options: dict) -> list:
        told = {
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HOME": str(tmp_path / "home"),
            "IRLIB_RESULTS": str(tmp_path / "results"),
            "HF_HUB_OFFLINE": "0",
        }
        order = [sys.executable, "-c", ASK, json.dumps(options)]
        done = subprocess.run(
            order, env=os.environ | told, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return asked


def test_one_split_is_fetched_wherever_the_set_has_moved_and_found_again_offline(tmp_path, ask):
    rows = [textvqa_rows()[0] | {"question_id": i} for i in (7, 8)]
    place = lay(tmp_path / "set", "textvqa", rows)
    test = place / "data/test-00000-of-00001.parquet"
    for name in ("train", "validation"):
        (place / f"data/{name}-00000-of-00001.parquet").write_bytes(test.read_bytes())
    splits = [f"  - split: {s}\n    path: data/{s}-*\n" for s in ("train", "validation", "test")]
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{''.join(splits)}---\n"
    (place / "README.md").write_text(card)
    handler = type("Ours", (Hub,), {"folder": place, "sent": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        new, old, wrong, late = ask(
            server.server_port,
            {"source": "hub:new/set"},
            {"source": "hub:old/set", "revision": COMMIT},
            {"source": "hub:wrong/set"},
            {"source": "hub:new/set", "revision": "v9"},
        )
        server.shutdown()
    assert new == old == ["7", "8"]
    assert "ValueError: task 'textvqa' was asked for from the hub, wrong/set; it knows no" in wrong
    assert "new/set at revision 'v9'; it has no such revision" in late
    assert set(handler.sent) == {"README.md", "validation-00000-of-00001.parquet"}
    again, other, never = ask(
        server.server_port,
        {"source": "hub:new/set"},
        {"source": "hub:new/set", "split": "train"},
        {"source": "hub:never/set"},
    )
    assert again == new
    for told in (other, never):
        assert told.startswith("ConnectionError")
        assert "cannot be reached and these rows were not fetched before" in told
