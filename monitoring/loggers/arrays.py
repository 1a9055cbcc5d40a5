"""Snapshots as .npz files: the arrays behind the records, in bounded number."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from ..records.files import read_arrays, whole_file
from ..records.record import ProbeRecord, ProbeSnapshot
from ..records.run_files import is_snapshot, remove_file

SNAPSHOTS = 16  # most that are kept of each probe
MAX_BYTES = 64 * 2**20  # most bytes kept of each probe, besides its first and last snapshot


class ArraysLogger:
    """Keeps each probe's first, last and every k-th snapshot, with k growing as the run does.

    A file PROBE-GLOBALSTEP.npz holds `mean`, `eigenvalues`, `correlation` (float32), `dead`
    (numbers of channels), `duplicates` (rows of channel, first of its group, sign), `epoch`,
    `step`, `global_step`, and `number`, which counts the snapshots of the probe; `numpy.load`
    reads it without pickle. Characters of a probe's name other than letters, digits and "_.-~"
    are escaped as in a URL, "/" as %2F.

    Args:
        folder: Folder for the files; created at the first write.
        limit: Snapshots kept of each probe, at least 2. Defaults to 16, or fewer if they
            would take more than 64 MB.
    """

    def __init__(self, folder: str | Path, limit: int = SNAPSHOTS):
        if limit < 2:
            raise ValueError(f"Expected a limit of at least 2 snapshots. Received: {limit}")
        self._folder, self._limit = Path(folder), limit
        self._files: dict[str, dict[int, Path]] = {}
        self._written: dict[str, int] = {}
        self._stride: dict[str, int] = {}

    def start(self, epoch: int, last_step: int, written: Mapping[str, int]) -> None:
        """Prepares for a training run that begins at `epoch`; see `FileLogger.start`."""
        if not epoch or not self._folder.is_dir():
            return
        self._files, self._written, self._stride = {}, dict(written), {}
        for path in filter(is_snapshot, self._folder.iterdir()):
            name, at_step = path.stem.rsplit("-", 1)
            number = int(read_arrays(path, ["number"])["number"])
            if int(at_step) > last_step:
                remove_file(path)
            else:
                self._files.setdefault(unquote(name), {})[number] = path

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None) -> None:
        """Writes one file, whole or not at all, and removes those that are no longer kept."""
        if snapshot is None:
            self._written[record.probe] = self._written.get(record.probe, 0) + 1
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{quote(snapshot.probe, safe='')}-{snapshot.global_step:08d}.npz"
        duplicates = [(channel, *origin) for channel, origin in snapshot.duplicates.items()]
        with whole_file(path) as draft:
            np.savez(
                draft,
                allow_pickle=False,
                epoch=snapshot.epoch,
                step=snapshot.step,
                global_step=snapshot.global_step,
                number=self._written.get(snapshot.probe, 0),
                mean=snapshot.mean,
                eigenvalues=snapshot.eigenvalues,
                correlation=snapshot.correlation.astype(np.float32),
                dead=np.array(snapshot.dead, np.int64),
                duplicates=np.array(duplicates, np.int64).reshape(-1, 3),
            )
        self._thin(snapshot.probe, path)

    def removed(self) -> bool:
        """Returns whether the folder no longer exists."""
        return not self._folder.is_dir()

    def close(self) -> None:
        """Does nothing: every file is complete once it is written."""

    def _thin(self, probe: str, path: Path) -> None:
        files = self._files.setdefault(probe, {})
        number = self._written.get(probe, 0)
        self._written[probe] = number + 1
        for old in [n for n, other in files.items() if other == path]:
            del files[old]  # written again by a second `fit` from the same step
        files[number] = path
        limit = max(2, min(self._limit, MAX_BYTES // path.stat().st_size))
        stride = self._stride.get(probe, 1)
        while -(-number // stride) + 1 > limit:  # 0, stride, 2 stride, ..., and the last
            stride *= 2
        chosen = {n: p for n, p in files.items() if n % stride == 0 or n == number}
        for dropped in files.keys() - chosen.keys():
            remove_file(files[dropped])
        self._files[probe], self._stride[probe] = chosen, stride
