from data.generate import readme


def test_the_readmes_tables_are_those_of_the_committed_figures_and_scores():
    text = (readme.ROOT / "README.md").read_text()
    assert readme.updated(text) == text


def test_what_stood_between_the_markers_is_replaced():
    marked = "".join(f"a\n<!-- {n} -->\nold\n<!-- /{n} -->\nb\n" for n in ("gallery", "minis"))
    made = readme.updated(marked)
    assert "old" not in made
    assert made.count("<!-- gallery -->") == made.count("<!-- /minis -->") == 1
    assert readme.updated(made) == made
