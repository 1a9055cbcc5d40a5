"""Snapshots as .npz files: the arrays behind the records, a bounded number of them."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from ..records.files import read_arrays, whole_file
from ..records.record import ProbeRecord, ProbeSnapshot

SNAPSHOTS = 16  # kept of each probe, at most
MAX_BYTES = 64 * 2**20  # of each probe, at most, but for its first and last


class ArraysLogger:
    """Keeps each probe's first, last and every k-th snapshot, k growing as the run does.

    A file PROBE-STEP.npz holds `mean`, `eigenvalues`, `correlation` (float32), `dead`
    (numbers of channels) and `duplicates` (rows of channel, first of its group, sign),
    `epoch` and `step`, and `number`, which counts the probe's snapshots; `numpy.load` reads
    it without pickle. What is not a letter, digit or one of "_.-~" in a probe's name is
    written as in a URL, "/" as %2F.

    Args:
        folder: Where to; made at the first write.
        limit: Snapshots kept of a probe, at least 2. Defaults to 16, fewer where they
            would take more than 64 MB.
    """

    def __init__(self, folder: str | Path, limit: int = SNAPSHOTS):
        if limit < 2:
            raise ValueError(f"Expected a limit of at least 2 snapshots. Received: {limit}")
        self._folder, self._limit = Path(folder), limit
        self._kept: dict[str, dict[int, Path]] = {}
        self._written: dict[str, int] = {}
        self._stride: dict[str, int] = {}

    def start(self, epoch: int, step: int, written: Mapping[str, int]) -> None:
        """Makes ready for a training that begins with `epoch`; as `FileLogger.start`."""
        if not epoch or not self._folder.is_dir():
            return
        self._kept, self._written, self._stride = {}, dict(written), {}
        for path in self._folder.glob("[!.]*-*.npz"):
            name, at = path.stem.rsplit("-", 1)
            number = int(read_arrays(path, ["number"])["number"])
            if int(at) > step:
                path.unlink()
            else:
                self._kept.setdefault(unquote(name), {})[number] = path

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None) -> None:
        """Writes one file, whole or not at all, and removes those no longer kept."""
        if snapshot is None:
            self._written[record.probe] = self._written.get(record.probe, 0) + 1
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{quote(snapshot.probe, safe='')}-{snapshot.step:08d}.npz"
        duplicates = [(one, *other) for one, other in snapshot.duplicates.items()]
        with whole_file(path) as draft:
            np.savez(
                draft,
                allow_pickle=False,
                epoch=snapshot.epoch,
                step=snapshot.step,
                number=self._written.get(snapshot.probe, 0),
                mean=snapshot.mean,
                eigenvalues=snapshot.eigenvalues,
                correlation=snapshot.correlation.astype(np.float32),
                dead=np.array(snapshot.dead, np.int64),
                duplicates=np.array(duplicates, np.int64).reshape(-1, 3),
            )
        self._thin(snapshot.probe, path)

    def removed(self) -> bool:
        """Returns whether the folder is no longer there."""
        return not self._folder.is_dir()

    def close(self) -> None:
        """Does nothing: every file is finished when it is written."""

    def _thin(self, probe: str, path: Path) -> None:
        kept = self._kept.setdefault(probe, {})
        number = self._written.get(probe, 0)
        self._written[probe] = number + 1
        for old in [n for n, other in kept.items() if other == path]:
            del kept[old]  # written again, by a second `fit` from the same step
        kept[number] = path
        limit = max(2, min(self._limit, MAX_BYTES // path.stat().st_size))
        stride = self._stride.get(probe, 1)
        while -(-number // stride) + 1 > limit:  # 0, stride, 2 stride, ..., and the last
            stride *= 2
        held = {n: p for n, p in kept.items() if n % stride == 0 or n == number}
        for dropped in kept.keys() - held.keys():
            kept[dropped].unlink(missing_ok=True)
        self._kept[probe], self._stride[probe] = held, stride
