"""Runs' records and files without a training: what tests of readers and pages share."""

import json
from pathlib import Path

import numpy as np

from monitoring.analysis.ladder import CutNetwork, Ladder, Rung, ladder_values
from monitoring.loggers.arrays import ArraysLogger
from monitoring.loggers.lines import JsonLinesLogger
from monitoring.records.reading import RunFolder
from monitoring.records.record import ProbeRecord, ProbeSnapshot

FIELDS = ProbeRecord.__dataclass_fields__
SCORES = dict.fromkeys(
    ("miou", "foreground_iou", "f1", "f05", "f2", "precision", "recall"), 0.75
) | {"images": 8}
SPREAD = dict.fromkeys(("worst", "p5", "p25", "median", "p75", "p95", "mean"), 0.5)
SWEEP = [
    {"threshold": t / 10, "miou": 0.5, "f1": 0.5, "precision": None, "recall": t / 10}
    for t in range(1, 10)
]
CONFIG = """\
model: {name: nano_u, input_size: [60, 80], filters: null}
data: {root: null}
training: {seed: 3, epochs: 2}
"""
EVALUATION = SCORES | {
    **{"split": "test", "model": "nano_u", "per_image_iou": SPREAD, "sweep": SWEEP},
    **{"training_seconds": 50.0, "monitoring_seconds": 0.5, "monitoring_seconds_estimated": 0.0},
}
EXPORT = {
    **{"file": "model_int8.tflite", "quantization": "post-training", "refused": "", "note": ""},
    **{"int8_scores": SCORES, "per_image_iou": SPREAD, "sweep": SWEEP},
}
COST = {
    **{"parameters": 4212, "trainable": 4000, "macs": 2399200, "weight_bytes": 5000},
    **{"peak_activation_bytes": 76800, "peak_layer": "decoder_3"},
}
ADVICE = {
    "rule": "effective_rank",
    "advice": [
        {
            **{"probe": "probe_encoder_1", "channels": 8, "suggested": 4, "low": 4, "high": 4},
            **{"reason": "3.2 channels in use (3.1 to 3.4)", "parameters": 80},
            **{"macs": 1000, "peak_activation_bytes": 30},
        }
    ],
    "now": {"parameters": 100, "macs": 2000, "peak_activation_bytes": 30},
    "advised": {"parameters": 80, "macs": 1000, "peak_activation_bytes": 30, "filters": [4]},
}


def two_rungs(probes=("probe_encoder_1",), score="mIoU") -> Ladder:
    """A ladder of two budgets, whose probes are left with 12 and 8 of 16 channels."""

    def network(percent, score, loss):
        width = max(8, 16 * percent // 100)
        widths = {"pointwise": width, "output": 1}
        return CutNetwork(
            *(100 * percent, 10 * percent, 200 + percent, score, loss),
            *(widths, dict.fromkeys(probes, width)),
        )

    rungs = (
        Rung(0.75, 7600, network(75, 0.895, 0.01), network(75, 0.85, 0.02)),
        Rung(0.5, 5100, network(50, 0.8, 0.1), network(50, 0.7, 0.2)),
    )
    return Ladder(score, 128, True, network(100, 0.9, 0.0), rungs)


ADVICE["ladder"] = ladder_values(two_rungs())
HISTORY = "epoch,loss,val_loss,miou\n0,0.5,0.6,0.1\n1,0.25,0.5,0.2\n"


def record(probe="probe_encoder_1", epoch=0, channels=8, **values) -> ProbeRecord:
    defaults = {name: 0.5 for name in FIELDS} | {"verdict": "ok", "source": "images"}
    defaults |= {"probe": probe, "epoch": epoch, "step": 10 * epoch, "channels": channels}
    defaults |= {"images": 64, "samples": 6400, "effective_rank": 5.0}
    defaults["global_step"] = values.get("step", 10 * epoch)
    return ProbeRecord(**(defaults | values))


def snapshot(probe="probe_encoder_1", channels=8, **values) -> ProbeSnapshot:
    defaults = {
        **{"probe": probe, "epoch": 0, "step": 0, "mean": np.zeros(channels)},
        **{"correlation": np.eye(channels), "eigenvalues": np.ones(channels)},
        **{"dead": (3,), "duplicates": {5: (2, -1)}, "global_step": values.get("step", 0)},
    }
    return ProbeSnapshot(**(defaults | values))


def run(folder: Path, records, **values) -> RunFolder:
    empty = dict.fromkeys(("config", "evaluation", "exported", "cost", "history"), {})
    return RunFolder(folder, records, **(empty | {"notes": ()} | values))


def write_records(folder: Path, epochs, probes=("probe_encoder_1",), channels=8) -> None:
    """Writes monitor.jsonl and arrays/ as a training does, an epoch at a time."""
    lines = JsonLinesLogger(folder / "monitor.jsonl")
    lines._file.mode = "a"
    arrays = ArraysLogger(folder / "arrays")
    for epoch in epochs:
        for probe in probes:
            new = record(probe, epoch, channels, step=10 * (epoch + 1))
            lines.write(new)
            arrays.write(new, snapshot(probe, channels, epoch=epoch, step=new.step))
    lines.close()


def write_run(folder: Path) -> Path:
    """Writes every file that a finished run has for its readers."""
    write_records(folder, range(-1, 4))
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "history.csv").write_text(HISTORY)
    values = {"evaluation": EVALUATION, "export": EXPORT, "cost": COST, "advice": ADVICE}
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder
