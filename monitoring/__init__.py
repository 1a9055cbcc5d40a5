"""The instrument: what each layer's channels do, measured while a Keras model trains."""

from .callback import NASMonitorCallback
from .records.record import ProbeRecord, ProbeSnapshot
from .statistics.covariance import CovarianceState, RunningCovariance
from .statistics.grouped import GroupedCovariance
from .statistics.metrics import ChannelMetrics, channel_metrics, covariance_redundancy
from .watch import watch

__all__ = [
    "ChannelMetrics",
    "CovarianceState",
    "GroupedCovariance",
    "NASMonitorCallback",
    "ProbeRecord",
    "ProbeSnapshot",
    "RunningCovariance",
    "channel_metrics",
    "covariance_redundancy",
    "watch",
]
