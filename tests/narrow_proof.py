"""Narrowed networks beside their rivals: `python tests/narrow_proof.py --help`.

Every rival has the same multiply-adds, images, schedule and choice of the epoch by validation, and
the same seed in every row of a pair; pair `i` belongs to the parent `i` modulo their number. Rows
are appended to a file when they are done, and what it holds already is not trained again, so a
series can be stopped at any time, and two processes (`--part 0/2`, `--part 1/2`) can share it.

    python tests/narrow_proof.py --parents runs/wide_0 runs/wide_1 --macs 2400000 \\
        --results proof.csv --folder work --seeds 0 1 2 3 --rivals narrow uniform_time
    python tests/narrow_proof.py --results proof.csv --table
"""

import argparse
import json
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import checkout  # noqa: F401
import keras
import numpy as np
from proof_rivals import CUTS
from proof_table import print_table
from result_rows import append_row, read_rows

from models.cost import model_cost
from models.narrowing.groups import Plan, plan_groups
from monitoring import InputMoments
from monitoring.records.files import whole_file
from training.compilation import compile_model
from training.data import draw_pairs, scale
from training.distill import read_teacher
from training.fit import fit
from training.model_files import load_model
from training.narrow_settings import EPOCHS, narrow_config, parent_settings
from training.narrowing import IMAGES, scores
from training.outputs import FOREGROUND
from training.parents import load_parent
from training.run import Run
from training.settings import Config
from training.split import Splits
from training.splits import read_config_splits

KEY = ("parent", "budget", "trained_on", "rival", "seed")
COLUMNS = (
    *KEY, "parent_test", "epochs", "macs", "parameters", "cut_val", "cut_test", "val", "test",
    "cutting_seconds", "training_seconds", "widths",
)  # fmt: skip
TEACHER = "+teacher"  # behind a rival's name: the parent teaches, too


class Start(NamedTuple):
    """The network that a rival's training begins with.

    Attributes:
        model: The network.
        seconds: CPU time of cutting it.
        epochs: Of training on.
    """

    model: keras.Model
    seconds: float
    epochs: int


class Contest:
    """One parent and one budget.

    Args:
        parent: Folder of the parent's run.
        budget: Multiply-adds.
        epochs: Of training on.
        folder: For networks and runs.
    """

    def __init__(self, parent: Path, budget: int, epochs: int, folder: Path):
        self.path, self.budget, self.epochs, self.folder = parent, budget, epochs, folder
        self.parent = load_parent(parent)
        self.splits: Splits = read_config_splits(self.config(0, epochs))
        self._parent_test = scores(self.parent, self.splits.test, FOREGROUND)["miou"]
        self.plan: Plan = plan_groups(self.parent)
        self.parent_epochs = parent_settings(parent)["training"]["epochs"]

    def config(self, seed: int, epochs: int, *, teacher: bool = False) -> Config:
        """Returns a run's configuration: the parent's, trained on."""
        chosen = {
            "narrow": {"parent": str(self.path), "macs": self.budget, "teacher": teacher},
            "training": {"seed": seed, "epochs": epochs},
        }
        return narrow_config(chosen)

    def moments(self, seed: int) -> InputMoments:
        """Returns what `train.py --narrow` measures the parent with."""
        images, masks = draw_pairs(self.splits.train, IMAGES, seed)
        return InputMoments(
            scale(images), masks.astype("float32"), FOREGROUND.image_losses, seed=seed
        )

    def start(self, rival: str, seed: int) -> Start:
        """Returns the network that a rival begins with, from a file if it has been made before."""
        name, _, length = rival.removesuffix(TEACHER).partition("_")
        if name in SCRATCH:
            begun = self.start(SCRATCH[name], seed)
            keras.utils.set_random_seed(seed)
            fresh = keras.models.clone_model(begun.model)
            return Start(fresh, 0.0, self._epochs(length, fresh, seed))
        name = rival.removesuffix(TEACHER)
        file = self.folder / "starts" / f"{self.path.name}-{self.budget}-{name}-{seed}.keras"
        times = file.with_suffix(".json")
        if not times.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            began = time.process_time()
            model = CUTS[name](self, seed)
            seconds = time.process_time() - began
            with whole_file(file) as draft:
                keras.saving.save_model(model, draft)
            with whole_file(times) as draft:
                draft.write_text(json.dumps(seconds))
        return Start(load_model(file), json.loads(times.read_text()), self.epochs)

    def _epochs(self, length: str, small: keras.Model, seed: int) -> int:
        """Returns how long a rival is trained from scratch.

        That is as long as training on ("short"), as the parent's training and training on together
        ("epochs"), as many epochs as take the time of these two and of the cut ("time"), or
        as many as take their multiply-adds ("macs").
        """
        if length == "short":
            return self.epochs
        ratio, cutting = 1.0, 0.0
        if length == "macs":
            ratio = model_cost(self.parent).macs / model_cost(small).macs
        if length == "time":
            wide, narrower = (self._step_seconds(model) for model in (self.parent, small))
            ratio = wide / narrower
            cutting = self.start("narrow", seed).seconds / (narrower * self._steps())
        return round(self.parent_epochs * ratio + cutting) + self.epochs

    def _steps(self) -> int:
        return -(-len(self.splits.train) // self.config(0, self.epochs).training.batch_size)

    def _step_seconds(self, model: keras.Model) -> float:
        """Returns the CPU time of a training step; kept, so that all rivals get the same."""
        file = self.folder / "starts" / f"step-{model_cost(model).macs}.json"
        if not file.is_file():
            copy = keras.models.clone_model(model)
            compile_model(copy, self.config(0, self.epochs), steps=1000)
            images, masks = draw_pairs(self.splits.train, 8, 0)
            times = []
            for _ in range(40):
                began = time.process_time()
                copy.train_on_batch(scale(images), masks.astype("float32"))
                times.append(time.process_time() - began)
            with whole_file(file) as draft:
                draft.write_text(json.dumps(float(np.median(times[10:]))))
        return float(json.loads(file.read_text()))

    def row(self, rival: str, seed: int) -> dict:
        """Trains one rival; returns its row."""
        start = self.start(rival, seed)
        taught = rival.endswith(TEACHER)
        config = self.config(seed, start.epochs, teacher=taught)
        before = [
            scores(start.model, s, FOREGROUND)["miou"] for s in (self.splits.val, self.splits.test)
        ]
        keras.utils.set_random_seed(seed)
        teacher = read_teacher(self.path, start.model, "logits") if taught else None
        folder = (
            self.folder / "runs" / f"{self.path.name}-{self.budget}-{self.epochs}-{rival}-{seed}"
        )
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(config, self.splits, start.model, folder, None, teacher)
        compile_model(start.model, config, steps=start.epochs * run.steps)
        began = time.process_time()
        model, _ = fit(run, verbose=0)
        seconds = time.process_time() - began
        cost = model_cost(model)
        widths = [int(cut.filters) for cut in model.layers if isinstance(cut, keras.layers.Conv2D)]
        test = json.loads((folder / "evaluation.json").read_text())["miou"]
        values = (
            self.path.name, self.budget, self.epochs, rival, seed, self._parent_test,
            start.epochs, cost.macs, cost.parameters, *before,
            scores(model, self.splits.val, FOREGROUND)["miou"], test, start.seconds, seconds,
            " ".join(map(str, widths)),
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


SCRATCH = {"uniform": "random", "found": "narrow"}  # from scratch, with the widths of which cut
LENGTHS = ("short", "epochs", "time", "macs")


def main() -> None:
    """Trains what is missing, or prints the table."""
    known = [*CUTS, *(f"{name}_{length}" for name in SCRATCH for length in LENGTHS)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--parents", type=Path, nargs="+")
    parser.add_argument("--macs", type=int, nargs="+")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training on")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--rivals", nargs="+", choices=[*known, *(n + TEACHER for n in known)])
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    if options.table:
        print_table(read_rows(options.results))
        return
    part, parts = map(int, options.part.split("/"))
    work = [(m, s, r) for m in options.macs for s in options.seeds for r in options.rivals]
    done = {tuple(row[name] for name in KEY) for row in read_rows(options.results)}
    contest = cache(Contest)
    for number, (macs, seed, rival) in enumerate(work):
        parent = options.parents[seed % len(options.parents)]
        key = (parent.name, str(macs), str(options.epochs), rival, str(seed))
        if number % parts == part and key not in done:
            row = contest(parent, macs, options.epochs, options.folder).row(rival, seed)
            append_row(options.results, row, COLUMNS)
            print(*(f"{row[name]}" for name in (*KEY, "val", "test")), flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
