"""Copies of a monitor, as tuners make one for each trial."""

import copy
from typing import Any

from .cost import MonitoringCost

SHARED = ("monitor_data", "_model", "_params")  # are not changed, and may be large


def copied(monitor: Any, memo: dict[int, Any]) -> Any:
    """Returns a copy of a monitor that has no records, and a folder of its own.

    Its folder is `log_dir` if that does not exist when its training begins, else `log_dir`-1,
    `log_dir`-2, ...

    Args:
        monitor: A NASMonitorCallback that is not training.
        memo: As for `__deepcopy__`.
    """
    new: Any = object.__new__(type(monitor))
    memo[id(monitor)] = new
    vars(new).update(vars(monitor))
    new.cost = MonitoringCost()
    new._measurer, new._recorder = None, monitor._recorder.in_new_folder(new.cost)
    for name, value in vars(monitor).items():
        if name not in (*SHARED, "cost", "_measurer", "_recorder", "_window"):
            setattr(new, name, copy.deepcopy(value, memo))
    return new
