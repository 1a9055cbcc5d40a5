"""The instrument: what each layer's channels do, measured while a Keras model trains."""

from monitoring.callback import NASMonitorCallback
from monitoring.covariance import CovarianceState, RunningCovariance
from monitoring.grouped import GroupedCovariance
from monitoring.metrics import ChannelMetrics, channel_metrics, covariance_redundancy
from monitoring.records import ProbeRecord, ProbeSnapshot
from monitoring.watch import watch

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
