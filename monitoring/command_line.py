"""What command lines share: a parser, one-line errors, and a quiet start of TensorFlow."""

import argparse
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def one_line(error: BaseException) -> str:
    r"""Returns an error's message without line breaks, printable on any console.

    Surrogates, which stand for the undecodable bytes of a file name, come out escaped.

    Example:
        >>> one_line(ValueError("no such file:\n caf\udce9"))
        'no such file: caf\\udce9'
    """
    return printable(" ".join(str(error).split()))


def printable(value: object) -> str:
    r"""Returns a value's text, with the undecodable bytes of a file name escaped.

    Example:
        >>> printable("runs/caf\udce9")
        'runs/caf\\udce9'
    """
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def numbers(text: str) -> tuple[int, ...]:
    """Parses an option's value such as "4,8,16".

    Raises:
        argparse.ArgumentTypeError: A part is not a whole number.

    Example:
        >>> numbers("4,8,16")
        (4, 8, 16)
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas. Received: {text!r}"
        ) from None


def fractions(text: str) -> tuple[float, ...]:
    """Parses an option's value such as "0.75,0.5".

    Raises:
        argparse.ArgumentTypeError: A part is not a number.

    Example:
        >>> fractions("0.75,0.5")
        (0.75, 0.5)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas. Received: {text!r}"
        ) from None


def names(text: str) -> tuple[str, ...]:
    """Parses an option's value such as "conv_1,conv_2"."""
    return tuple(name.strip() for name in text.split(","))


def mask_values(text: str) -> tuple[int | str, ...]:
    """Parses an option's value such as "1,255" or "#800000"."""
    return tuple(int(part) if part.isdecimal() else part for part in names(text))


def not_negative(text: str) -> float:
    """Parses an option's value such as "0.5".

    Raises:
        argparse.ArgumentTypeError: It is not a number, or below 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0. Received: {text!r}")
    return value


def amount(text: str, thousand: int = 1000) -> int:
    """Parses a whole number, or one such as "2.4M" and "40k".

    Args:
        text: The number.
        thousand: What k stands for; M is its square, G its cube. Defaults to 1000; for bytes, 1024.

    Raises:
        ValueError: It is neither.

    Example:
        >>> amount("2.4M"), amount("40k", 1024)
        (2400000, 40960)
    """
    match = re.fullmatch(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)([kMG])B?", text, re.ASCII)
    if match is None:
        raise ValueError("expected a whole number, or one such as 40k or 2.4M")
    if match[1]:
        return int(match[1])
    return int(Decimal(match[2]) * {"k": thousand, "M": thousand**2, "G": thousand**3}[match[3]])


def budget(text: str, thousand: int = 1000) -> int:
    """Parses the value of an option that is a budget, such as "2.4M".

    Raises:
        argparse.ArgumentTypeError: It is not an amount above 0.
    """
    try:
        value = amount(text, thousand)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}. Received: {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected more than 0. Received: {text!r}")
    return value


@contextmanager
def quiet_start() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the console, unless the block fails.

    Its libraries write to the file descriptor before any log level takes effect.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        started = False
        try:
            yield
            started = True
        finally:
            os.dup2(console, 2)
            os.close(console)
            if not started:
                messages.seek(0)
                os.write(2, messages.read())
