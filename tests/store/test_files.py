"""The writer: files whole or not at all, and nowhere else than asked."""

import errno
import os

import pytest

from irlib import store


def test_a_full_disk_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "kept.csv"
    store.write(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device; make room"):
        store.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_results_folder_that_cannot_be_made_is_told_with_the_way_out(tmp_path):
    (tmp_path / "results").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"asked to write .*IRLIB_FIGURES or IRLIB_RESULTS"):
        store.write(tmp_path / "results/answers/a.json", b"x")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "", ".", "..", "a/b", "~", "x\n", None]
)
def test_a_name_that_may_lead_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="found no plain name in it"):
        store.inside(tmp_path, name)


@pytest.mark.parametrize("name", ["mini", "paper-7b", "fig1.5_x", "méridien", "with space"])
def test_a_plain_name_stays_in_its_folder(name, tmp_path):
    assert store.inside(tmp_path, name) == tmp_path / name
