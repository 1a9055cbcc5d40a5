"""INT8 files for microcontrollers, run before they are accepted."""

from training.export.device_file import TOLERANCE, Exported, export
from training.export.finished_run import DATA_RAM, export_run, summary

__all__ = ["DATA_RAM", "TOLERANCE", "Exported", "export", "export_run", "summary"]
