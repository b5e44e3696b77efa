"""Files and pictures are known by what is in them, whatever their size and time stamp say."""

import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from irlib.store import contents
from irlib.tasks.pictures import Embedded


def rewrite(path, data: bytes) -> None:
    """Write other content of the same length, and set the time stamp back."""
    facts = path.stat()
    assert len(data) == facts.st_size
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, in order."""
    done, real = [], contents.hashlib.file_digest

    def read(file, name):
        done.append(file.name)
        return real(file, name)

    monkeypatch.setattr(contents.hashlib, "file_digest", read)
    return done


def settle(path) -> None:
    """Wait until a file's last change is old enough to be told from the next."""
    while time.time_ns() - path.stat().st_ctime_ns < 2.1e9:
        time.sleep(0.1)


def test_a_file_rewritten_with_the_same_size_and_time_is_another(tmp_path, reads):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    first = contents.file(path)
    rewrite(path, b"others!")  # at once
    second = contents.file(path)
    assert second != first
    settle(path)
    assert contents.file(path) == second
    rewrite(path, b"thirds!")  # after a while
    third = contents.file(path)
    assert third not in (first, second)
    settle(path)
    assert contents.file(path) == third  # told by ctime alone: what was kept is of the second
    moved = tmp_path / "new"
    moved.write_bytes(b"fourths")
    os.utime(moved, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    settle(moved)
    moved.replace(path)  # as archives and editors do
    assert contents.file(path) not in (first, second, third)


def test_a_file_that_stays_is_read_once(tmp_path, reads):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    contents.file(path)
    contents.file(path)
    assert len(reads) == 2  # too young to be kept
    settle(path)
    assert len({contents.file(path) for _ in range(5)}) == 1
    assert len(reads) == 3


CLEAR = Image.new("P", (2, 2))
CLEAR.info["transparency"] = 0
HALF, WHOLE = (Image.new("P", (2, 2)) for _ in range(2))
HALF.putpalette([1, 2, 3, 4], "RGBA")
WHOLE.putpalette([1, 2, 3, 255], "RGBA")
PICTURES = {
    "palette": Image.new("P", (2, 2)),
    "one colour clear": CLEAR,
    "half clear": HALF,
    "whole": WHOLE,
    "array": np.zeros((2, 3), np.uint8),
    "array turned": np.zeros((3, 2), np.uint8),
    "another array": np.ones((2, 3), np.uint8),
    "bits": np.zeros((2, 3), bool),
    "floats": np.zeros((2, 3), np.float32),
    "bytes": Embedded(b"one"),
    "other bytes": Embedded(b"two"),
    "none": None,
}


def test_pictures_that_look_different_are_told_apart():
    assert len({contents.picture(image) for image in PICTURES.values()}) == len(PICTURES)


def test_the_same_picture_is_the_same_however_it_is_given(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    assert contents.picture(tmp_path / "a") == contents.picture(Embedded(b"one"))
    values = np.ones((2, 3), np.float32)
    assert contents.picture(values) == contents.picture(torch.ones(2, 3, requires_grad=True))
    assert contents.picture(values) == contents.picture(torch.ones(2, 3).bfloat16())


def test_what_is_no_picture_is_told_shortly():
    with pytest.raises(ValueError, match="found a dict; give a PIL picture or a path") as told:
        contents.picture({"a": "b" * 20000})
    assert len(str(told.value)) < 100
