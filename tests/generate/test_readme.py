import json
import re

import pandas as pd

from data.generate import readme
from irlib.reproduce import committed


def test_the_readmes_table_is_that_of_the_miniatures_scores():
    text = (readme.ROOT / "README.md").read_text()
    assert readme.updated(text) == text


def test_what_stood_between_the_markers_is_replaced():
    made = readme.updated(f"a\n{readme.FIRST}old{readme.LAST}\nb\n")
    assert "old" not in made
    assert made.startswith("a\n")
    assert made.endswith("\nb\n")
    assert readme.updated(made) == made


def test_the_readme_tells_what_the_figures_say_and_the_claims_outcomes():
    text = (readme.ROOT / "README.md").read_text()
    assert committed.told(text) == text
    for profile in committed.JUDGED:
        path = readme.ROOT / f"figures/{profile}/claims.csv"
        if profile != "mini" and not path.is_file():  # the miniatures' are always there
            continue
        judged = pd.read_csv(path)
        assert all(f"**{outcome}**" in text for outcome in judged["outcome"])
        assert judged["model"].iloc[0] in text
    for path in sorted((readme.ROOT / "figures/smol").glob("fig*.json")):
        row = re.search(rf"^\| <img src=\"figures/smol/{path.stem}.png\".*$", text, re.M).group()
        told = json.loads(path.read_text())["said"]
        assert told
        assert all(one["says"] in row for one in told)
