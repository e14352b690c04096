import io
import logging

from ssl_vae.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def follow(stream):
    with Progress(stream, "M1", step=10, steps_per_epoch=20, num_epochs=3) as progress:
        for step in range(20, 61, 10):
            progress.update(step, 200.0 + step)


def test_a_terminal_gets_a_bar_with_the_loss(caplog):
    stream = Terminal()
    with caplog.at_level(logging.INFO, "ssl_vae"):
        follow(stream)
    assert "60/60" in stream.getvalue()
    assert "loss=260.00" in stream.getvalue()
    assert caplog.text == ""


def test_a_log_gets_one_plain_line_an_epoch(caplog):
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, "ssl_vae"):
        follow(stream)
    assert stream.getvalue() == ""
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split("  loss")[0] for line in lines] == [
        "M1: epoch 1/3",
        "M1: epoch 2/3",
        "M1: epoch 3/3",
    ]
    assert "loss 260.00" in lines[-1]
    assert "steps/s" in lines[-1]


def test_many_epochs_get_about_twenty_lines_and_the_last_is_among_them(caplog):
    epochs = 107
    with (
        caplog.at_level(logging.INFO, "ssl_vae"),
        Progress(
            io.StringIO(), "M1", step=0, steps_per_epoch=2, num_epochs=epochs
        ) as progress,
    ):
        for step in range(1, 2 * epochs + 1):
            progress.update(step, 1.0)
    lines = [text.partition("  loss")[0] for text in caplog.messages]
    assert lines[:2] == ["M1: epoch   5/107", "M1: epoch  10/107"]
    assert lines[-2:] == ["M1: epoch 105/107", "M1: epoch 107/107"]
    assert len(lines) == 22
