"""The front end as text, and one HTML file of it that needs no kernel and no network."""

import base64
import hashlib
import html
import json
import re
from functools import cache
from importlib.resources import files

MODULES = ("dom", "data", "ask", "picture", "charts", "save", "hosts", "explorer")
MOST = 3_000_000  # bytes of a page
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=function|const|async)", re.MULTILINE)


@cache
def script() -> str:
    """The front end's modules as one, which exports what anywidget asks for.

    They are joined as they are: lines that import one another go, and so does the word export.
    """
    joined = []
    for name in MODULES:
        text = (files(__package__) / "front" / f"{name}.js").read_text(encoding="utf-8")
        joined.append(_EXPORT.sub("", _IMPORT.sub("", text)))
    return "\n".join(joined)


@cache
def style() -> str:
    """The one stylesheet."""
    return (files(__package__) / "front" / "explorer.css").read_text(encoding="utf-8")


def page(told: dict | None, *, title: str, connects: bool = False) -> str:
    """One HTML document that shows the panels `told`; with None it asks its own server for them.

    A policy in it lets nothing in from anywhere, and no script run but this one; `connects` lets it
    talk to where it came from.
    """
    begin = 'const told = document.getElementById("told");\n'
    begin += 'start(document.getElementById("view"), told && JSON.parse(told.textContent));\n'
    code = script().partition("\nexport default ")[0] + "\n" + begin
    rules = {
        "default-src": "'none'", "img-src": "data: blob:", "script-src": _hashed(code),
        "style-src": "'unsafe-inline'", "connect-src": "'self'" if connects else "'none'",
        "frame-src": "'self'" if connects else "'none'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    policy = "; ".join(f"{name} {value}" for name, value in rules.items())
    data = (
        "" if told is None else f'<script type="application/json" id="told">{_safe(told)}</script>'
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>body {{ margin: 0 }}\n{style()}</style></head>\n"
        f'<body><div id="view"></div>\n{data}\n'
        f'<script type="module">{code}</script></body></html>\n'
    )


def _hashed(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def _safe(told: dict) -> str:
    """JSON that no markup can be read from, whatever texts are in it."""
    text = json.dumps(told, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
