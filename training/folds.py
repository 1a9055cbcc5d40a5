"""Cross-validation: one training per fold, each image in the test split of one of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.records.files import read_values
from monitoring.records.run_files import EVALUATION, FOLDS, FOLDS_SETTINGS
from training.config import read_config, validate
from training.evaluate import write_values
from training.prepared import prepared_runs
from training.run import Run
from training.run_folder import has_finished
from training.settings import Config
from training.settings_folder import claim_settings
from training.splits import read_config_splits


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation that is checked, and owns its folder.

    Attributes:
        folder: Its folder; each fold is a run in its sub-folder fold_1, fold_2, and so on.
        configs: A configuration for each fold.
    """

    folder: Path
    configs: tuple[Config, ...]

    def runs(self, *, verbose: int = 1) -> Iterator[Run]:
        """Yields the trainings of all folds in turn, but those that have finished.

        Raises:
            ValueError: As for `training.prepared.prepared_runs`.
            OSError: As for `training.prepared.prepared_runs`.
        """
        for number, config in enumerate(self.configs, start=1):
            folder = fold_folder(self.folder, number)
            if has_finished(folder):
                continue
            if verbose:
                print(f"Fold {number} of {len(self.configs)}:", flush=True)
            output = config.output.model_copy(update={"folder": str(folder)})
            config = config.model_copy(update={"output": output})
            yield from prepared_runs(config, resume=True, verbose=verbose)

    def report(self, *, verbose: int = 1) -> dict[str, Any]:
        """Writes folds.json, once all folds have finished; returns what it holds."""
        folders = [fold_folder(self.folder, n) for n in range(1, len(self.configs) + 1)]
        scores = [read_values(folder / EVALUATION) for folder in folders]
        names = [
            name
            for name, value in scores[0].items()
            if isinstance(value, float) and "seconds" not in name
        ]
        summary = {name: _summary([score[name] for score in scores]) for name in names}
        values = {
            "folds": [
                {"folder": folder.name, "images": score["images"], "miou": score["miou"]}
                for folder, score in zip(folders, scores, strict=True)
            ],
            "scores": summary,
        }
        write_values(self.folder / FOLDS, values)
        if verbose:
            for fold in values["folds"]:
                print(f"{fold['folder']}: test mIoU {fold['miou']:.4f} ({fold['images']} images)")
            miou = summary["miou"]
            print(
                f"Mean of {len(folders)} folds: test mIoU {miou['mean']:.4f}, standard deviation "
                f"{miou['sd']:.4f}, lowest {miou['least']:.4f}, highest {miou['most']:.4f}"
            )
            print(f"Results are in {self.folder}: {FOLDS}")
        return values


def prepare_folds(
    path: str | Path | None, overrides: Mapping[str, Mapping[str, Any]]
) -> CrossValidation:
    """Checks the settings of a cross-validation, and claims its folder.

    A fold that was stopped is resumed by the same command, and ends as if it had never been
    stopped.

    Args:
        path: The user's configuration file; None: no file.
        overrides: As for `training.config.read_config`, with data.split.folds.

    Raises:
        ValueError: A setting is impossible, or the folder holds something else.
        OSError: A file does not exist, or the folder cannot be written.
    """
    config = read_config(path, overrides)
    if config.data.root is None or config.data.split is None or config.data.split.folds is None:
        raise ValueError("--folds needs a folder of images: --data DIR")
    if config.narrow.parent is not None or config.distillation.teacher is not None:
        raise ValueError(
            "--folds trains from scratch: a parent or teacher may have learned from images in the "
            "test split of a fold. Omit --narrow and --distill-from"
        )
    configs = []
    for fold in range(1, config.data.split.folds + 1):
        split = config.data.split.model_copy(update={"fold": fold})
        data = config.data.model_copy(update={"split": split})
        configs.append(config.model_copy(update={"data": data}))
    read_config_splits(configs[0])
    folder = claim_settings(
        config.output.folder,
        FOLDS_SETTINGS,
        _comparable(config),
        kind="cross-validation",
        comparable=lambda values: _comparable(validate(values, source=FOLDS_SETTINGS)),
    )
    return CrossValidation(folder, tuple(configs))


def fold_folder(folder: Path, number: int) -> Path:
    """Returns the folder of a fold's run."""
    return folder / f"fold_{number}"


def _summary(values: list[float | None]) -> dict[str, float]:
    """Returns mean, standard deviation, least and most of the scores that are defined."""
    defined = [value for value in values if value is not None]
    if not defined:
        return dict.fromkeys(("mean", "sd", "least", "most"), float("nan"))
    spread = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
    return {
        "mean": float(np.mean(defined)), "sd": spread, "least": min(defined), "most": max(defined),
    }  # fmt: skip


def _comparable(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = config.model_dump(mode="json", exclude={"output": {"folder"}})
    return values
