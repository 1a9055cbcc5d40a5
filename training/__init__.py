"""The application: it trains the zoo's networks, monitors them, and acts on what it finds.

`advise` and `analyze` are `monitoring.advise` and `monitoring.analyze` with what they need of
the application: images, and the zoo's builders.
"""

from typing import Any

__all__ = ["advise", "analyze"]


def __getattr__(name: str) -> Any:
    """Imports a command when it is first used, since Keras takes seconds to start."""
    if name in __all__:
        from training import commands

        return getattr(commands, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
