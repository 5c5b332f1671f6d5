"""Pictures of masks and networks, and videos of episodes."""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._plots import plot_mask, plot_network
    from ._saving import drawn_if_possible, save_figure
    from ._video import record_video

__all__ = [
    "drawn_if_possible",
    "plot_mask",
    "plot_network",
    "record_video",
    "save_figure",
]

__getattr__ = lazy(
    __name__,
    {
        "plot_mask": "._plots",
        "plot_network": "._plots",
        "drawn_if_possible": "._saving",
        "save_figure": "._saving",
        "record_video": "._video",
    },
)
