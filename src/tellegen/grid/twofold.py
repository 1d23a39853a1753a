"""Array code that runs as it stands, and compiled where numba is asked for: one source for both.

A `Twofold` function is plain Python on arrays, without keyword arguments and in the part of numpy that numba knows.
Called, it runs as it is written; `compiled` is the same in machine code, in which other `Twofold` functions that it
calls are compiled as well. What is one call of numpy to the one and quicker as a loop to the other is written both
ways. Importing numba takes longer than many a command, so nothing is compiled before it is asked for.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

ParamT = ParamSpec("ParamT")
AnswerT = TypeVar("AnswerT")


class Twofold(Generic[ParamT, AnswerT]):
    """A function on arrays, plain and compiled.

    >>> import numpy as np
    >>> double = Twofold(lambda x: 2.0 * x)
    >>> double(np.ones(2)).tolist()
    [2.0, 2.0]
    """

    def __init__(self, function: Callable[ParamT, AnswerT]) -> None:
        self.plain = self._source = function
        self.__doc__, self.__module__ = function.__doc__, function.__module__

    def __call__(self, *args: ParamT.args, **kwargs: ParamT.kwargs) -> AnswerT:
        """As plain Python."""
        return self.plain(*args, **kwargs)

    def loop(self, function: Callable[ParamT, AnswerT]) -> Twofold[ParamT, AnswerT]:
        """Decorates the same as a loop, to be compiled in its place."""
        self._source = function
        return self

    @cached_property
    def compiled(self) -> Callable[ParamT, AnswerT]:
        """The same in machine code; importing numba is the price of the first."""
        from tellegen.grid.sweeps import compiled

        return compiled(self._source)

    @cached_property
    def _inner(self) -> Any:
        from tellegen.grid.sweeps import compiled

        return compiled(self._source, inner=True)

    @property
    def _numba_type_(self) -> Any:
        # What numba takes a global for that a compiled function calls.
        return self._inner._numba_type_


def digest_of(module: str) -> str:
    """Digest of the source of a module, and of all of the product whose functions or classes it names, in 16 digits."""
    product = __name__.partition(".")[0] + "."
    found, todo = set[str](), {module}
    while todo:
        name = todo.pop()
        found.add(name)
        named = {getattr(value, "__module__", None) for value in vars(sys.modules[name]).values()}
        todo |= {each for each in named if isinstance(each, str) and each.startswith(product)} - found
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(found):
        file: str | None = getattr(sys.modules[name], "__file__", None)
        digest.update(b"" if file is None else hashlib.blake2b(Path(file).read_bytes()).digest())
    return digest.hexdigest()
