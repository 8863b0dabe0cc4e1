"""Objects that exist once per process: they hold the state of its calls, so that a copy would protect nothing."""

from __future__ import annotations

from typing import Any, NoReturn, Self


class ProcessBound:
    """Copying returns the object itself; pickling is refused."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds the state of this process and cannot be pickled; make it in each process, "
            "such as at the top of a module that they import, and share state with Policy(shared=SharedState(...))"
        )
