"""Reads and marks exceptions that other code made, without relying on how their classes behave.

An exception class may answer anything from ``__getattr__``, raise from a property or from ``__str__``, claim another
``__class__``, or forbid attributes. Python's own fields are therefore read through the descriptors of
``BaseException``, ours are kept in the instance's dictionary, and everything else is read by :func:`attribute`.
Nothing here raises an ``Exception``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Final, TypeGuard, TypeVar

T = TypeVar("T")

MAX_CHAIN: Final = 100
"""Causes that are looked at; the cause of a cause that far away says nothing about an error."""
_MAX_PAIRS: Final = 1_000

_instance_dict: Final = BaseException.__dict__["__dict__"].__get__
_get_args: Final = BaseException.__dict__["args"].__get__
_get_cause: Final = BaseException.__dict__["__cause__"].__get__
_get_context: Final = BaseException.__dict__["__context__"].__get__
_get_suppress_context: Final = BaseException.__dict__["__suppress_context__"].__get__
_get_traceback: Final = BaseException.__dict__["__traceback__"].__get__
_get_members: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_get_mro: Final = type.__dict__["__mro__"].__get__
_get_module: Final = type.__dict__["__module__"].__get__
_get_qualname: Final = type.__dict__["__qualname__"].__get__
_get_members_of_class: Final = type.__dict__["__dict__"].__get__


def is_a(value: object, kinds: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """As ``isinstance``, by the real type: ``isinstance`` also asks the value's ``__class__``, which may raise."""
    return issubclass(type(value), kinds)


def attribute(owner: object, name: str) -> Any:
    """The attribute, or ``None`` where there is none or reading it fails."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  # a property or a ``__getattr__`` that raises has no value to give
        return None


def answer_of(owner: object, name: str, *args: object) -> Any:
    """What the method answers; ``None`` where there is none or it fails."""
    try:
        return getattr(owner, name)(*args)
    except Exception:  # noqa: BLE001  # as above
        return None


def own(exception: BaseException, name: str) -> Any:
    """What :func:`set_own` kept under ``name``, or ``None``."""
    return _instance_dict(exception).get(name)


def set_own(exception: BaseException, name: str, value: object) -> None:
    """Keeps ``value`` on the exception, also where its class forbids attributes, as a frozen dataclass does."""
    _instance_dict(exception)[name] = value


_MAX_CLASSES: Final = 1024


def has_none_of(names: Collection[str]) -> Callable[[BaseException], bool]:
    """A function that says whether certainly none of these attributes can be read from an exception: most have none of
    the attributes that are looked for, and to ask for each costs more than all else."""
    wanted = frozenset(names)
    known: dict[type, bool] = {}

    def lacks_all(exception: BaseException) -> bool:
        kept = _instance_dict(exception)
        if kept and not wanted.isdisjoint(kept):
            return False
        try:
            kind = type(exception)
            lacks = known.get(kind)
            if lacks is None:
                if len(known) >= _MAX_CLASSES:
                    known.clear()
                lacks = known[kind] = _class_has_none_of(kind, wanted)
        except Exception:  # noqa: BLE001  # a metaclass may raise from anything
            return False
        return lacks

    return lacks_all


def _class_has_none_of(kind: type, names: frozenset[str]) -> bool:
    """Whether instances have these attributes in their dictionaries alone."""
    bases = bases_of(kind)
    members = {name for base in bases for name in _get_members_of_class(base)}
    reads = next(base for base in bases if "__getattribute__" in _get_members_of_class(base))
    return reads is BaseException and "__getattr__" not in members and names.isdisjoint(members)


def args_of(exception: BaseException) -> tuple[Any, ...]:
    """What the exception was made with."""
    return _get_args(exception)  # type: ignore[no-any-return]


def cause_of(exception: BaseException) -> BaseException | None:
    """The explicit cause (``raise … from cause``)."""
    return _get_cause(exception)  # type: ignore[no-any-return]


def context_of(exception: BaseException) -> BaseException | None:
    """The exception that was being handled when this one was raised."""
    return _get_context(exception)  # type: ignore[no-any-return]


def reason_of(exception: BaseException) -> BaseException | None:
    """What a traceback shows above it: the explicit cause, else the context unless ``from None`` hides it."""
    cause: BaseException | None = _get_cause(exception)
    if cause is None and not _get_suppress_context(exception):
        return context_of(exception)
    return cause


def traceback_of(exception: BaseException) -> TracebackType | None:
    """The frames that it has passed through."""
    return _get_traceback(exception)  # type: ignore[no-any-return]


def members_of(group: BaseExceptionGroup[BaseException]) -> tuple[BaseException, ...]:
    """The exceptions in a group, as they are."""
    return _get_members(group)  # type: ignore[no-any-return]


def causes_of(exception: BaseException) -> Iterator[BaseException]:
    """The explicit causes, nearest first; ends where they repeat, and after :data:`MAX_CHAIN`."""
    seen = {id(exception)}
    cause = cause_of(exception)
    while cause is not None and id(cause) not in seen and len(seen) <= MAX_CHAIN:
        yield cause
        seen.add(id(cause))
        cause = cause_of(cause)


def leaves_of(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The members of a group and of the groups in it that are no groups themselves; each object once."""
    leaves = []
    seen: set[int] = set()
    pending: list[BaseException] = [group]
    while pending:
        member = pending.pop()
        if id(member) in seen:
            continue
        seen.add(id(member))
        if is_a(member, BaseExceptionGroup):
            pending.extend(reversed(members_of(member)))
        else:
            leaves.append(member)
    return leaves


def bases_of(kind: type) -> tuple[type, ...]:
    """The class and its bases, in the order in which attributes are looked up."""
    return _get_mro(kind)  # type: ignore[no-any-return]


def name_of(kind: type) -> str:
    """Module and qualified name of a class; ``?`` for a part that is no text."""
    parts = (_get_module(kind), _get_qualname(kind))
    return ".".join(part if isinstance(part, str) else "?" for part in parts)


def text_of(value: object) -> str:
    """``str(value)``, or the name of its class where that fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # a broken __str__ must not hide what failed
        return type(value).__name__


def repr_of(exception: BaseException) -> str:
    """``repr(exception)``, or the name of its class where that fails."""
    try:
        return repr(exception)
    except Exception:  # noqa: BLE001  # as above
        return type(exception).__name__


def header_of(headers: object, name: str) -> str | None:
    """The value of something like HTTP headers under ``name`` (lower case), whatever its spelling there.

    Headers are a mapping, or a series of pairs. ``None`` where there is no such text, or where they cannot be read.
    """
    if headers is None:
        return None
    try:
        get = getattr(headers, "get", None)
        value = None if get is None else _as_text(get(name))
        if value is not None or _finds_any_spelling(type(headers)):  # type: ignore[arg-type]  # as for other classes
            return value
        items = getattr(headers, "items", None)
        pairs: Any = headers if items is None else items()
        for key, each in islice(pairs, _MAX_PAIRS):
            text = _as_text(key)
            if text is not None and text.lower() == name:
                return _as_text(each)
    except Exception:  # noqa: BLE001  # an object of any kind, under a name that headers often have
        return None
    return None


_ANY_SPELLING: Final = frozenset(
    {
        "email.message.Message",
        "httpx.Headers",
        "httpx2.Headers",
        "multidict._multidict.CIMultiDict",
        "multidict._multidict.CIMultiDictProxy",
        "requests.structures.CaseInsensitiveDict",
    }
)


@functools.lru_cache(maxsize=128)
def _finds_any_spelling(kind: type) -> bool:
    """Whether ``get`` of these headers minds no capitals, so that looking through them finds nothing more."""
    return any(name_of(base) in _ANY_SPELLING for base in bases_of(kind))


def _as_text(value: object) -> str | None:
    if is_a(value, bytes):
        return value.decode("latin-1")
    if is_a(value, (int, float)):
        return str(value)  # of headers that were read from JSON
    return value if is_a(value, str) else None
