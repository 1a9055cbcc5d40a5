"""Cuts channels out of a trained network and re-solves the layers that read them."""

from .groups import ChannelGroup, ChannelReader, channel_groups
from .ladder import narrow_ladder
from .narrow import GroupCut, Narrowed, narrow

__all__ = [
    "ChannelGroup",
    "ChannelReader",
    "GroupCut",
    "Narrowed",
    "channel_groups",
    "narrow",
    "narrow_ladder",
]
