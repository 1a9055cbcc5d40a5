"""Packages that only some functions need: their absence is one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingPackageError(ImportError):
    """A package is not installed; the message names it, what needs it and how to get it."""


@contextmanager
def needed_for(purpose: str, distribution: str) -> Iterator[None]:
    """Turns a failed import in the block into a `MissingPackageError`.

    Args:
        purpose: What needs the package, the subject of the message.
        distribution: Its name for pip.

    Raises:
        MissingPackageError: The block imports a module that is not installed.

    Example:
        >>> with needed_for("A report", "a-template-engine"):
        ...     import a_template_engine
        Traceback (most recent call last):
        monitoring.optional.MissingPackageError: A report needs a-template-engine, which is not \
installed: pip install a-template-engine
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{purpose} needs {distribution}, which is not installed: pip install {distribution}"
        ) from error
