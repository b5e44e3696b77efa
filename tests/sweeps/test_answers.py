"""The shards of answers: whole or not there, known by their checksum, nothing twice."""

import errno
import json
import os
import time

import pytest

from irlib import store
from irlib.store import provenance
from irlib.sweeps import answers
from irlib.sweeps.answers import Answers, Told

SETTING = {"model": "abc", "keep": 0}
STRANGE = ["", "NaN", "None", "null", "a\nb\x00c", "ja 🐈", " kept ", "0"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    return tmp_path


def rows(*names: str, text: str = "yes", layers=(0, 1)):
    return [
        (name, layer, *Told(text, 2.5, 0.25), "pope", f"key {name}")
        for name in names
        for layer in layers
    ]


def shards(folder):
    return sorted(folder.rglob("*.parquet"))


def test_answers_are_read_back_as_the_very_strings_they_were():
    wanted = {(str(i), 3): Told(text, 0.5, 1 / 3, -0.1) for i, text in enumerate(STRANGE)}
    kept = Answers(SETTING)
    kept.add([(row, layer, *one, "t", "k") for (row, layer), one in wanted.items()])
    assert kept.told == wanted
    assert Answers(SETTING).told == wanted


def test_only_what_no_shard_holds_is_missing():
    Answers(SETTING).add(rows("a", "b"))
    kept = Answers(SETTING)
    assert kept.missing("a", [0, 1, 2]) == [2]
    assert kept.missing("c", [0, 1]) == [0, 1]
    assert Answers(SETTING | {"keep": 1}).missing("a", [0, 1]) == [0, 1]


def test_a_setting_is_told_beside_its_shards_and_a_name_does_not_change_it(folder):
    one, other = Answers(SETTING, name="x"), Answers(SETTING, name="y")
    assert one.folder == other.folder
    assert json.loads((one.folder / "setting.json").read_text()) == {"name": "x", **SETTING}


def test_a_shard_tells_its_rows_and_what_they_were(folder):
    from pyarrow import parquet

    Answers(SETTING).add(rows("a"))
    [path] = shards(folder)
    assert path.name.startswith("2-")
    table = parquet.read_table(path).to_pydict()
    assert table["task"] == ["pope"] * 2
    assert table["key"] == ["key a"] * 2


def test_what_is_there_is_not_written_again(folder):
    kept = Answers(SETTING)
    kept.add(rows("a", "b"))
    kept.add(rows("b", "c"))
    kept.add(rows("a"))
    assert [path.name.split("-")[0] for path in shards(folder)] == ["2", "4"]
    assert len(Answers(SETTING).told) == 6


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "zeros"])
def test_a_damaged_shard_is_set_aside_told_and_its_rows_alone_are_missing(folder, damage, caplog):
    kept = Answers(SETTING)
    kept.add(rows("a"))
    [path] = shards(folder)
    kept.add(rows("b"))
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "cut": data[:middle],
            "empty": b"",
            "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "zeros": bytes(len(data)),
        }[damage]
    )
    kept = Answers(SETTING)
    assert kept.missing("a", [0, 1]) == [0, 1]
    assert kept.missing("b", [0, 1]) == []
    assert f"{path} is damaged" in caplog.text
    kept.add(rows("a"))
    assert path.read_bytes() == data
    assert Answers(SETTING).missing("a", [0, 1]) == []
    assert path.with_suffix(".damaged").is_file()


@pytest.mark.parametrize("columns", ["fewer", "others"])
def test_a_shard_with_other_columns_is_left_alone_and_its_rows_are_missing(folder, columns, caplog):
    """As another version of irlib wrote it: read by name or place it would give wrong numbers."""
    from pyarrow import parquet

    kept = Answers(SETTING)
    kept.add(rows("a"))
    [path] = shards(folder)
    table = parquet.read_table(path)
    if columns == "fewer":
        table = table.drop_columns(["kl", "logprob"])
    else:
        names = ["logprob" if name == "kl" else "kl" if name == "logprob" else name
                 for name in table.column_names]  # fmt: skip
        table = table.rename_columns(names)
    path.unlink()
    parquet.write_table(table, path)
    data = path.read_bytes()
    path = path.rename(path.with_name(f"2-{answers._checksum(data)}.parquet"))
    kept = Answers(SETTING)
    assert kept.missing("a", [0, 1]) == [0, 1]
    assert f"{path} has other columns" in caplog.text
    kept.add(rows("a"))
    assert Answers(SETTING).told["a", 0].kl == 0.25
    assert path.read_bytes() == data


def test_any_single_bit_that_flips_is_found(folder):
    kept = Answers(SETTING)
    kept.add(rows("a"))
    [path] = shards(folder)
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert Answers(SETTING).told == {}
        path.write_bytes(data)
    assert len(Answers(SETTING).told) == 2


def test_a_full_disk_leaves_what_was_finished_and_nothing_half_written(folder, monkeypatch):
    kept = Answers(SETTING)
    kept.add(rows("a"))
    before = sorted(folder.rglob("*"))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device; make room"):
            kept.add(rows("b"))
    assert sorted(folder.rglob("*")) == before
    assert kept.missing("b", [0]) == [0]  # not taken for kept either
    kept.add(rows("b"))
    assert len(Answers(SETTING).told) == 4


def test_a_shard_that_was_cut_off_is_no_shard_and_is_cleaned_away_when_it_is_old(folder):
    kept = Answers(SETTING)
    old, young = (kept.folder / f".2-{name}.parquet.1-2.part" for name in ("old", "young"))
    for part in (old, young):
        part.write_bytes(b"PAR1")
    hours_ago = time.time() - 2 * answers.STALE
    os.utime(old, (hours_ago, hours_ago))
    assert Answers(SETTING).told == {}
    assert not old.exists()
    assert young.exists()  # its process may be at work


def test_fresh_answers_stand_before_those_from_before():
    Answers(SETTING).add(rows("a", "b", text="old"))
    fresh = Answers(SETTING, fresh=True)
    assert fresh.told == {}
    fresh.add(rows("a", text="new"))
    told = Answers(SETTING).told
    assert (told["a", 0].answer, told["b", 0].answer) == ("new", "old")


def test_a_row_is_one_claimants_until_it_lets_go_and_then_its_answers_are_seen():
    one, other = Answers(SETTING), Answers(SETTING)
    claim = one.claim(["a", "b"])
    assert other.claim(["b", "c"]) is None
    with other.claim(["c"]):  # what the refused claim had taken is free again
        one.add(rows("a", "b"))
        claim.close()
    with other.claim(["b", "c"]):
        assert other.missing("b", [0, 1]) == []
    assert list((one.folder / "locks").iterdir()) == []


def test_a_lock_whose_file_is_gone_locks_nothing_for_others():
    """Who opened the file before it was unlinked must not go on as if it had the lock."""
    one, other, third = (Answers(SETTING) for _ in range(3))
    for _ in range(50):
        claim = one.claim(["a"])
        assert other.claim(["a"]) is None
        claim.close()
        with other.claim(["a"]):
            assert third.claim(["a"]) is None


def test_a_store_that_holds_everything_is_read_where_nothing_can_be_written(monkeypatch):
    Answers(SETTING).add(rows("a"))
    monkeypatch.setattr(store, "write", lambda *_: pytest.fail("the store was written"))
    assert len(Answers(SETTING).told) == 2


def test_a_folder_that_cannot_be_written_is_told(folder):
    (folder / "answers").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"asked to write .*setting.json.*IRLIB_RESULTS"):
        Answers(SETTING)
    (folder / "answers").unlink()
    kept = Answers(SETTING)
    (kept.folder / "locks").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"asked to lock .*a\.lock.*IRLIB_RESULTS"):
        kept.claim(["a"])


def test_without_a_setting_nothing_is_on_disk(folder):
    kept = Answers(None)
    with kept.claim(["a"]):
        kept.add(rows("a"))
    kept.refresh()
    assert kept.missing("a", [0, 5]) == [5]
    assert list(folder.iterdir()) == []


def test_settings_that_differ_in_anything_have_folders_of_their_own():
    told = [SETTING, SETTING | {"keep": 1}, SETTING | {"dtype": "float16"}, {"model": "abd"}]
    assert len({Answers(setting).folder for setting in told}) == 4
    assert Answers(dict(reversed(SETTING.items()))).folder == Answers(SETTING).folder
    assert provenance.fingerprint(SETTING).startswith(Answers(SETTING).folder.name)
