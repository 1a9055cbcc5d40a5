"""Reads the arrays behind a run's records."""

from pathlib import Path
from urllib.parse import unquote

import numpy as np

from .files import DamagedFileError, read_arrays
from .record import ProbeSnapshot
from .run_files import ARRAYS

NAMES = ("epoch", "step", "mean", "correlation", "eigenvalues", "dead", "duplicates")
GLOBAL_STEP = "global_step"  # which older files lack
ROUNDING = 1e-3  # by which a correlation may exceed 1


def read_snapshots(folder: str | Path) -> dict[str, list[ProbeSnapshot]]:
    """Reads {probe: its snapshots in order} from a run's arrays/; empty where there are none.

    Raises:
        DamagedFileError: A file is damaged, or its arrays are not those of a snapshot.
    """
    return {
        probe: [read_snapshot(path) for path in paths]
        for probe, paths in snapshot_files(folder).items()
    }


def snapshot_files(folder: str | Path) -> dict[str, list[Path]]:
    """Returns {probe: its files in order} of a run's arrays/."""
    files: dict[str, list[Path]] = {}
    paths = (Path(folder) / ARRAYS).glob("[!.]*-*.npz")
    for path in sorted(paths, key=lambda path: (_probe(path), len(path.stem), path.stem)):
        files.setdefault(_probe(path), []).append(path)
    return files


def read_snapshot(path: Path) -> ProbeSnapshot:
    """Reads one snapshot.

    Raises:
        DamagedFileError: The file is damaged, or its arrays are not those of a snapshot.
    """
    arrays = read_arrays(path, NAMES, optional=(GLOBAL_STEP,))
    arrays.setdefault(GLOBAL_STEP, arrays["step"])
    problem = _problem(arrays)
    if problem:
        raise DamagedFileError(f"{path} is not a snapshot of a probe: {problem}")
    return ProbeSnapshot(
        probe=_probe(path),
        epoch=int(arrays["epoch"]),
        step=int(arrays["step"]),
        global_step=int(arrays[GLOBAL_STEP]),
        mean=arrays["mean"],
        correlation=arrays["correlation"],
        eigenvalues=arrays["eigenvalues"],
        dead=tuple(int(channel) for channel in arrays["dead"]),
        duplicates={
            int(channel): (int(first), int(sign)) for channel, first, sign in arrays["duplicates"]
        },
    )


def _probe(path: Path) -> str:
    return unquote(path.stem.rsplit("-", 1)[0])


def _problem(arrays: dict[str, np.ndarray]) -> str:
    """Describes what is wrong with the arrays of a snapshot; empty where nothing is."""
    expected = {
        **dict.fromkeys(("epoch", "step", GLOBAL_STEP), (0, "iu")),
        **dict.fromkeys(("mean", "eigenvalues"), (1, "f")),
        "dead": (1, "iu"),
        "correlation": (2, "f"),
        "duplicates": (2, "iu"),
    }
    for name, (dimensions, kinds) in expected.items():
        array = arrays[name]
        if array.ndim != dimensions or array.dtype.kind not in kinds:
            kind = "real" if kinds == "f" else "whole"
            return (
                f"expected '{name}' to have {dimensions} dimensions and {kind} numbers. "
                f"Received: shape {array.shape}, {array.dtype}"
            )
    channels = len(arrays["mean"])
    correlation = arrays["correlation"]
    if correlation.shape != (channels, channels):
        return (
            f"expected 'correlation' of shape {(channels, channels)}. Received: {correlation.shape}"
        )
    if arrays["duplicates"].shape[1] != 3:
        return f"expected 'duplicates' of 3 columns. Received: {arrays['duplicates'].shape[1]}"
    live = np.isfinite(np.diag(correlation))
    if not (np.abs(correlation[np.ix_(live, live)]) <= 1 + ROUNDING).all():
        return "expected correlations of -1 to 1 between live channels"
    if not np.isfinite(arrays["eigenvalues"]).all():
        return "expected finite eigenvalues"
    return ""
