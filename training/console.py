"""What the command lines share: options, one-line errors, and a quiet start."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        """Ends the process with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help shows what there is)\n")


def one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())


@contextmanager
def quiet_start() -> Iterator[None]:
    """Keeps what TensorFlow says while it starts off the console, unless it fails.

    Its libraries write to the file descriptor before any log level counts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        started = False
        try:
            yield
            started = True
        finally:
            os.dup2(console, 2)
            os.close(console)
            if not started:
                said.seek(0)
                os.write(2, said.read())


def numbers(text: str) -> tuple[int, ...]:
    """Reads "4,8,16" as an option's value.

    Example:
        >>> numbers("4,8,16")
        (4, 8, 16)
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas between. Received: {text!r}"
        ) from None
