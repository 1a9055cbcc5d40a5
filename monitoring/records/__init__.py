"""Records: their dataclasses, how they are made, written whole and read back."""
