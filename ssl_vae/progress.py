"""Following a run: a bar with the loss on a terminal, plain lines elsewhere."""

import logging
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

logger = logging.getLogger("ssl_vae")

LINES = 20  # about as many are enough for a log file


class Progress:
    """Shows a run's steps; use it with `with`.

    On a terminal a bar with loss, speed and time left. Elsewhere one log line an epoch,
    or every few epochs where there are many, so that a log file stays short.
    """

    def __init__(
        self,
        stream: TextIO,
        title: str,
        *,
        step: int,
        steps_per_epoch: int,
        num_epochs: int,
    ):
        self.title = title
        self._steps_per_epoch, self._num_epochs = steps_per_epoch, num_epochs
        self._epochs_per_line = max(1, num_epochs // LINES)
        self._step, self._time = step, time.monotonic()
        self._plain = not stream.isatty()
        self._bar = tqdm(
            desc=title,
            total=num_epochs * steps_per_epoch,
            initial=step,
            unit="step",
            file=stream,
            disable=self._plain,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def update(self, step: int, loss: float) -> None:
        """Shows that `step` steps are done, the last ones with this mean loss."""
        self._bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
        self._bar.update(step - self._bar.n)
        epoch, rest = divmod(step, self._steps_per_epoch)
        due = epoch % self._epochs_per_line == 0 or epoch == self._num_epochs
        if self._plain and due and not rest:
            now = time.monotonic()
            rate = (step - self._step) / (now - self._time)
            logger.info(
                "%s: epoch %*d/%d  loss %.2f  %.3g steps/s",
                self.title,
                len(str(self._num_epochs)),
                epoch,
                self._num_epochs,
                loss,
                rate,
            )
            self._step, self._time = step, now
