"""Files that are whole or not there, and files that one process has to itself."""

import os
import shutil
import threading

import pytest

from ssl_vae import files
from ssl_vae.files import locked, replacing


def test_until_it_is_written_the_old_file_is_there(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    with replacing(file) as partial:
        partial.write_text("new")
        assert (partial.parent, file.read_text()) == (tmp_path, "old")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(file) as partial:
        partial.write_text("half")
        raise OSError("full")
    assert file.read_text() == "old"


def test_a_lock_is_one_owner_s_until_it_is_closed(tmp_path):
    path = tmp_path / "folder" / "lock"
    file, alone = locked(path, wait=False)
    assert alone
    with pytest.raises(BlockingIOError):
        locked(path, wait=False)
    file.close()
    again, alone = locked(path, wait=False)
    assert alone
    again.close()


def test_who_waits_for_a_lock_that_its_owner_removes_gets_a_new_one(tmp_path):
    path = tmp_path / "folder" / "lock"
    file, _ = locked(path, wait=True)
    got = []
    waiting = threading.Thread(target=lambda: got.append(locked(path, wait=True)))
    waiting.start()
    waiting.join(0.2)
    assert not got
    shutil.rmtree(path.parent)
    file.close()
    waiting.join(10)
    ((mine, alone),) = got
    assert alone
    assert os.path.samestat(os.fstat(mine.fileno()), path.stat())
    mine.close()


def test_a_folder_that_goes_as_the_lock_is_made_is_made_again(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "lock"
    made = type(path).mkdir
    removals = iter([True, False])

    def made_and_removed(self, **how):
        made(self, **how)
        if next(removals):
            self.rmdir()

    monkeypatch.setattr(type(path), "mkdir", made_and_removed)
    file, alone = locked(path, wait=False)
    assert alone
    assert path.exists()
    file.close()


def test_without_locks_the_file_is_open_and_not_ours_alone(tmp_path, monkeypatch):
    def without(*_):
        raise OSError("no locks")

    monkeypatch.setattr(files.fcntl, "flock", without)
    file, alone = locked(tmp_path / "lock", wait=False)
    assert not alone
    file.close()
