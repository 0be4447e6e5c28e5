"""Looks of very many pictures, kept in a file that has no name: memory holds what is worked on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np

from winnow.clean.looks import Look

HELD = 512 << 20  # bytes of an array that memory holds; a larger one lies in a file


def roomy(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array to fill, in memory or, above `HELD` bytes, mapped from a file that goes when the array goes."""
    if np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize <= HELD:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


class SpooledLooks(Sequence):
    """Looks by number as a list gives them; each is read from the file when it is asked for, from any thread."""

    def __init__(self):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self._places: list[tuple[int, int, tuple[int, int, int, int], tuple[int, ...]]] = []
        self._end = 0

    def append(self, look: Look) -> None:
        """Add one at the end."""
        content = look.packed + look.grids.tobytes()
        os.pwrite(self._file.fileno(), content, self._end)
        self._places.append((self._end, len(look.packed), look.trim, look.grids.shape))
        self._end += len(content)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        start, packed, trim, shape = self._places[index]
        content = os.pread(self._file.fileno(), packed + int(np.prod(shape)), start)
        return Look(content[:packed], trim, np.frombuffer(content, np.uint8, offset=packed).reshape(shape))
