import json
import re

from data.generate import readme


def test_the_readmes_table_is_that_of_the_miniatures_scores():
    text = (readme.ROOT / "README.md").read_text()
    assert readme.updated(text) == text


def test_what_stood_between_the_markers_is_replaced():
    made = readme.updated(f"a\n{readme.FIRST}old{readme.LAST}\nb\n")
    assert "old" not in made
    assert made.startswith("a\n")
    assert made.endswith("\nb\n")
    assert readme.updated(made) == made


def test_the_readme_tells_the_verdicts_of_the_figures():
    text = (readme.ROOT / "README.md").read_text()
    stems = sorted((readme.ROOT / "figures/mini").glob("*.json"))
    assert len(stems) == 10
    for path in stems:
        row = re.search(rf"^\| <img src=\"figures/mini/{path.stem}.png\".*$", text, re.M).group()
        told = json.loads(path.read_text())["verdicts"]
        for verdict in told:
            assert f"{verdict['outcome']}: {verdict['claim']}" in row
        assert len(re.findall(r"agrees: |disagrees: |cannot be told: ", row)) >= len(told)
