"""INT8 files for microcontrollers, run before they are accepted."""

from training.export.device_file import TOLERANCE, export
from training.export.exported import Exported
from training.export.finished_run import DATA_RAM, export_run, summary
from training.export.offline_plan import OVERLAP, PLAIN

__all__ = [
    "DATA_RAM",
    "OVERLAP",
    "PLAIN",
    "TOLERANCE",
    "Exported",
    "export",
    "export_run",
    "summary",
]
