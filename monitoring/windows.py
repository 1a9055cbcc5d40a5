"""An open window of training batches, saved so that a run that was killed can continue it."""

from functools import partial

from .measuring import Measurer
from .recorder import Recorder


class OpenWindow:
    """Saves the window of training batches that is open at the end of an epoch.

    Args:
        recorder: Its folder and thread are used.
        measurer: Owner of the window.
    """

    def __init__(self, recorder: Recorder, measurer: Measurer):
        self._recorder, self._measurer = recorder, measurer

    def save(self, epoch: int) -> None:
        """Saves the window that is open at the end of `epoch`, if any."""
        folder = self._recorder.folder
        if folder is None or self._measurer.tap is None:
            return
        with self._recorder.cost.waiting():
            state = self._measurer.window_state()
            if state:
                size = sum(value.nbytes for value in state.values())
                self._recorder.submit_job(partial(folder.keep_window, epoch, state), size)

    def restore(self, epoch: int) -> None:
        """Continues the window that was open at the end of `epoch`, if any."""
        folder = self._recorder.folder
        if folder is not None and self._measurer.tap is not None:
            state = folder.window(epoch)
            if state:
                self._measurer.tap.restore(state)

    def drop(self) -> None:
        """Removes the saved windows at the end of a training run."""
        if self._recorder.folder is not None:
            self._recorder.folder.drop_windows()
