"""An array on disk, of which only the rows that are asked for are in memory."""

import os
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np


class MemoryArray:
    """Rows of one shape that are added one by one, and are then a plain array.

    Args:
        row: Shape of a row.
        dtype: Of the rows.
    """

    def __init__(self, row: Sequence[int], dtype: np.dtype):
        self._rows: list[np.ndarray] = []

    def add(self, row: np.ndarray) -> None:
        """Adds the next row."""
        self._rows.append(row)

    @property
    def rows(self) -> np.ndarray:
        """All rows as one array."""
        return np.stack(self._rows)


class DiskArray:
    """Rows of one shape, in a file without a name that goes when the process does.

    Indexing by a number, a slice or several numbers reads these rows and returns a plain array.
    The file lies in the folder for temporary files, which the variable TMPDIR names.

    Args:
        row: Shape of a row.
        dtype: Of the rows.

    Example:
        >>> array = DiskArray((3,), np.dtype("uint8"))
        >>> for row in ([1, 2, 3], [4, 5, 6]):
        ...     array.add(np.array(row, np.uint8))
        >>> array[[1, 0]].tolist()
        [[4, 5, 6], [1, 2, 3]]
    """

    def __init__(self, row: Sequence[int], dtype: np.dtype):
        self.dtype, self._shape, self._count = np.dtype(dtype), tuple(row), 0
        self._row = int(np.prod(self._shape)) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile()
        weakref.finalize(self, self._file.close)

    def add(self, row: np.ndarray) -> None:
        """Adds the next row.

        Raises:
            OSError: The disk is full.
            ValueError: The row has another shape or type.
        """
        if row.shape != self._shape or row.dtype != self.dtype:
            raise ValueError(
                f"Expected rows of {self._shape} {self.dtype}. Received: {row.shape} {row.dtype}"
            )
        self._file.write(np.ascontiguousarray(row).data)
        self._count += 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of each."""
        return (self._count, *self._shape)

    @property
    def rows(self) -> "DiskArray":
        """The array itself, as of `MemoryArray`."""
        return self

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size on disk."""
        return self.shape[0] * self._row

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Returns rows as an array."""
        numbers = np.arange(len(self))[index]
        if numbers.ndim == 0:
            return self._read(int(numbers), 1)[0]
        if len(numbers) and (np.diff(numbers) == 1).all():
            return self._read(int(numbers[0]), len(numbers))
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for place, number in enumerate(numbers.tolist()):
            rows[place] = self._read(number, 1)[0]
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns everything as one array."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, first: int, count: int) -> np.ndarray:
        self._file.flush()
        array = np.empty((count, *self.shape[1:]), self.dtype)
        target, place = array.data.cast("B"), first * self._row
        while target.nbytes:
            done = os.preadv(self._file.fileno(), [target], place)
            if not done:
                raise OSError("an array on disk was cut off")
            target, place = target[done:], place + done
        return array
