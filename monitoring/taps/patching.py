"""The only module that touches a user's model: wrapping methods of objects, and giving them back.

`Patch` is the one mechanism. Any number of patches of one method nest, may be released in any
order, and leave the object exactly as it was. `TrainStepPatch` adds what a training step needs: it
lasts as long as the `fit` that it was made in, however that `fit` ends.
"""

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import keras

LOCK = threading.RLock()
MISSING = object()

Method = Callable[..., Any]
Wrapper = Callable[..., Any]  # called as wrapper(original_method, *args, **kwargs)


class Patch:
    """Wraps one method of one object until `release`; also a context manager.

    The last patch made is the outermost. If another library has wrapped the method on top of
    ours in the meantime, its wrapper stays in place and ours passes calls straight on.

    Args:
        target: The object; its class and other instances are not touched.
        name: Name of the method.
        wrapper: Called as `wrapper(original, *args, **kwargs)` in its place.

    Example:
        >>> class Greeter:
        ...     def greet(self):
        ...         return "hello"
        >>> greeter = Greeter()
        >>> with Patch(greeter, "greet", lambda original: original().upper()):
        ...     greeter.greet()
        'HELLO'
        >>> greeter.greet(), vars(greeter)
        ('hello', {})
    """

    def __init__(self, target: object, name: str, wrapper: Wrapper):
        self._wrapper = wrapper
        with LOCK:
            self._dispatch = _dispatcher(target, name)
            self._dispatch.patches.append(self)

    def __enter__(self) -> "Patch":
        """Returns the patch, which is in force already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Releases the patch."""
        self.release()

    def release(self) -> None:
        """Takes the wrapper away; does nothing if that has happened already."""
        with LOCK:
            if self in self._dispatch.patches:
                self._dispatch.patches.remove(self)
                self._dispatch.restore()


def _dispatcher(target: object, name: str) -> Any:
    """Returns the function in the method's place, which calls every wrapper in turn."""
    current = vars(target).get(name, MISSING)
    # A foreign wrapper made with functools.wraps carries a copy of our attributes.
    if getattr(current, "itself", None) is current:
        return current
    original = getattr(target, name)
    patches: list[Patch] = []

    @functools.wraps(original)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        method = original
        for patch in tuple(patches):
            method = functools.partial(patch._wrapper, method)
        if not patches:
            restore()
        return method(*args, **kwargs)

    def restore() -> None:
        with LOCK:
            if patches or vars(target).get(name) is not dispatch:
                return
            if current is MISSING:
                object.__delattr__(target, name)
            else:
                object.__setattr__(target, name, current)

    functions: Any = dispatch
    functions.itself, functions.patches, functions.restore = dispatch, patches, restore
    object.__setattr__(target, name, dispatch)
    return dispatch


class TrainStepPatch:
    """Wraps a model's training step until the current `fit` ends.

    It is released by `release`; at once, if an exception passes the training step; else before
    the model is next used, when a train, test or predict function is made after the `fit` has
    ended. In a custom loop without `fit` it lasts until `release` or until a `fit` begins.

    Args:
        model: A compiled Keras model on the TensorFlow backend.
        wrapper: Called as `wrapper(original_train_step, data)`.
    """

    def __init__(self, model: keras.Model, wrapper: Wrapper):
        with LOCK:
            taken = _TAKEN.get(model)
            if taken is not None and taken.fit_is_over():
                taken.release()
            if model not in _TAKEN:
                _TAKEN[model] = _TakenStep(model)
            self._taken = _TAKEN[model]
            self._taken.begin(Patch(model, "train_step", wrapper), self)

    def release(self) -> None:
        """Restores the training step; does nothing if that has happened already."""
        with LOCK:
            self._taken.end(self)


class _TakenStep:
    """One model's training function while patches of its training step are in force."""

    def __init__(self, model: keras.Model):
        self._model = weakref.ref(model)
        self._steps: dict[TrainStepPatch, Patch] = {}
        self._uses: list[Patch] = []
        self._earlier: Any = None  # the training function before the first patch
        self._guarded: Any = None  # the one that runs the patched step
        self._frame = _fit_frame(model)
        self._thread = threading.get_ident()

    @property
    def model(self) -> keras.Model:
        model = self._model()
        assert model is not None, "patches live on the model itself"
        return model

    def begin(self, patch: Patch, owner: TrainStepPatch) -> None:
        """Rebuilds the training function with one more patch of the step."""
        if not self._steps:
            self._earlier = self.model.train_function
            self._uses = [
                Patch(self.model, "make_train_function", self._make_train_function),
                Patch(self.model, "make_test_function", self._make_function),
                Patch(self.model, "make_predict_function", self._make_function),
            ]
        self._steps[owner] = patch
        self._remake()

    def end(self, owner: TrainStepPatch) -> None:
        """Rebuilds the training function without one patch; without the last, restores it."""
        if owner not in self._steps:
            return
        self._steps.pop(owner).release()
        if self._steps:
            self._remake()
        else:
            self._give_back()

    def release(self) -> None:
        """Releases every patch of the step."""
        with LOCK:
            while self._steps:
                self._steps.popitem()[1].release()
            self._give_back()

    def _give_back(self) -> None:
        for use in self._uses:
            use.release()
        if self._guarded is not None and self.model.train_function is self._guarded:
            self.model.train_function = self._earlier
        self._frame = self._earlier = self._guarded = None
        _TAKEN.pop(self.model, None)

    def fit_is_over(self) -> bool:
        """Returns whether the `fit` in which the step was taken is no longer running."""
        if self._frame is None:  # a custom loop, which a `fit` ends
            return _fit_frame(self.model) is not None
        frame = sys._current_frames().get(self._thread)
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is None

    def _remake(self) -> None:
        earlier = self._earlier
        self.model.make_train_function(force=True)
        self._earlier = earlier

    def _make_train_function(self, original: Method, force: bool = False) -> Any:
        if self.fit_is_over():
            self.release()
            return original(force=force)
        original(force=force)
        if self.model.train_function is not self._guarded:
            # A new function asked for in the middle of a fit makes the earlier one obsolete.
            self._earlier = None
            self._guarded = self._guard(self.model.train_function)
            self.model.train_function = self._guarded
        return self._guarded

    def _make_function(self, original: Method, *args: Any, **kwargs: Any) -> Any:
        if self.fit_is_over():
            self.release()
        return original(*args, **kwargs)

    def _guard(self, train_function: Method) -> Method:
        """Returns the training function, which releases the step if an exception passes it."""
        import tensorflow as tf

        def guarded(*args: Any, **kwargs: Any) -> Any:
            sound = False
            try:
                logs = train_function(*args, **kwargs)
                sound = True
            except (StopIteration, tf.errors.OutOfRangeError):
                sound = True  # the data have ended, which Keras catches
                raise
            finally:
                if not sound:
                    self.release()
            return logs

        return guarded


_TAKEN: "weakref.WeakKeyDictionary[keras.Model, _TakenStep]" = weakref.WeakKeyDictionary()


def _fit_frame(model: keras.Model) -> FrameType | None:
    """Returns the frame of the model's own `fit` that this code is called from, if any."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return frame
        frame = frame.f_back
    return None
