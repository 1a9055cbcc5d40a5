"""The names of losses, as a configuration gives them."""

CROSS_ENTROPY = "cross_entropy"
NAMES = (CROSS_ENTROPY, "dice", "focal", "tversky")
ALIASES = {"bce": CROSS_ENTROPY}
BALANCED = "balanced"


def loss_parts(text: str) -> tuple[str, ...]:
    """Returns the names in a sum of losses.

    Raises:
        ValueError: One is unknown, or given twice.

    Example:
        >>> loss_parts("bce+dice")
        ('cross_entropy', 'dice')
    """
    parts = tuple(ALIASES.get(part.strip(), part.strip()) for part in text.split("+"))
    if not set(parts) <= set(NAMES) or len(set(parts)) < len(parts):
        known = ", ".join((*ALIASES, *NAMES))
        raise ValueError(f"expected one of {known}, or a sum of them, as in bce+dice")
    return parts
