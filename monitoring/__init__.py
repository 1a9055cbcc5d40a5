"""Measures what each layer's channels do while a Keras model trains.

Names are imported when they are first used: reading a run needs neither Keras nor TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.ladder import Ladder
    from .analysis.model_analysis import Analysis
    from .analysis.run_advice import Advice
    from .callback import NASMonitorCallback
    from .input_moments import InputMoments
    from .records.record import ProbeRecord, ProbeSnapshot
    from .report.advise import advise
    from .report.analyze import analyze
    from .report.comparison_page import compare
    from .report.run_page import write_report
    from .statistics.covariance import CovarianceState
    from .statistics.grouped import GroupedCovariance
    from .statistics.metrics import ChannelMetrics, channel_metrics, covariance_redundancy
    from .statistics.running import RunningCovariance
    from .watch import watch

MODULES = {
    "Advice": "analysis.run_advice",
    "Analysis": "analysis.model_analysis",
    "ChannelMetrics": "statistics.metrics",
    "CovarianceState": "statistics.covariance",
    "GroupedCovariance": "statistics.grouped",
    "InputMoments": "input_moments",
    "Ladder": "analysis.ladder",
    "NASMonitorCallback": "callback",
    "ProbeRecord": "records.record",
    "ProbeSnapshot": "records.record",
    "RunningCovariance": "statistics.running",
    "advise": "report.advise",
    "analyze": "report.analyze",
    "channel_metrics": "statistics.metrics",
    "compare": "report.comparison_page",
    "covariance_redundancy": "statistics.metrics",
    "watch": "watch",
    "write_report": "report.run_page",
}

__all__ = [
    "Advice",
    "Analysis",
    "ChannelMetrics",
    "CovarianceState",
    "GroupedCovariance",
    "InputMoments",
    "Ladder",
    "NASMonitorCallback",
    "ProbeRecord",
    "ProbeSnapshot",
    "RunningCovariance",
    "advise",
    "analyze",
    "channel_metrics",
    "compare",
    "covariance_redundancy",
    "watch",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports a public name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
