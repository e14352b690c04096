"""Files that are whole or not there."""

import pytest

from ssl_vae.files import replacing


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
