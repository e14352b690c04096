import pytest

from ssl_vae.errors import in_a_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two\tthree "), "one two three"),
        (KeyError(), "KeyError"),
        (ValueError("a" * 11), "aaaaaaaaaa..."),
        (ValueError("a" * 10), "aaaaaaaaaa"),
    ],
)
def test_an_error_is_told_in_a_line(error, line):
    assert in_a_line(error, 10 if "a" * 10 in str(error) else 100) == line
