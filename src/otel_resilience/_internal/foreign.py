"""Reads and annotates exceptions made by other code, without relying on how their classes behave.

An exception class may return anything from ``__getattr__``, raise from a property or from ``__str__``, fake its
``__class__``, or forbid attributes. Python's own fields are therefore read through the descriptors of
``BaseException``, ours are kept in the instance's dictionary, and everything else is read by :func:`attribute`. Nothing
here raises an ``Exception``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from types import GetSetDescriptorType, TracebackType
from typing import Any, Final, TypeGuard, TypeVar

T = TypeVar("T")

MAX_CHAIN: Final = 100
"""How many causes are followed; one further away says nothing about the error."""
_MAX_PAIRS: Final = 1_000

_get_suppress_context: Final = BaseException.__dict__["__suppress_context__"].__get__
_get_members: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_get_module: Final = type.__dict__["__module__"].__get__
_get_qualname: Final = type.__dict__["__qualname__"].__get__
_get_members_of_class: Final = type.__dict__["__dict__"].__get__


def is_a(value: object, kinds: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Like ``isinstance``, by the real type: ``isinstance`` also reads the value's ``__class__``, which may raise."""
    return issubclass(type(value), kinds)


def attribute(owner: object, name: str) -> Any:
    """The attribute, or ``None`` if there is none or reading it fails."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  # a property or a ``__getattr__`` that raises has no value to give
        return None


def answer_of(owner: object, name: str, *args: object) -> Any:
    """What the method returns; ``None`` if there is no such method or it fails."""
    try:
        return getattr(owner, name)(*args)
    except Exception:  # noqa: BLE001  # any object may fail in its own way
        return None


def own(exception: BaseException, name: str) -> Any:
    """What :func:`set_own` kept under ``name``, or ``None``."""
    return dict_of(exception).get(name)


def set_own(exception: BaseException, name: str, value: object) -> None:
    """Stores ``value`` on the exception, even if its class forbids attributes, as a frozen dataclass does."""
    dict_of(exception)[name] = value


_MAX_CLASSES: Final = 1024
_FIELDS: Final = frozenset({"__cause__", "__context__", "__dict__", "__suppress_context__", "__traceback__"})


def has_none_of(names: Collection[str]) -> Callable[[BaseException], bool]:
    """A function that says whether an exception certainly has none of these attributes. Most exceptions have none of
    those that are looked for, and reading them one by one is expensive."""
    wanted = frozenset(names)
    known: dict[type, bool] = {}

    def lacks_all(exception: BaseException) -> bool:
        try:
            kind = type(exception)
            lacks = known.get(kind)
            if lacks is None:
                if len(known) >= _MAX_CLASSES:
                    known.clear()
                lacks = known[kind] = class_has_none_of(kind, wanted)
        except Exception:  # noqa: BLE001  # a metaclass may raise from anything
            return False
        if not lacks:
            return False
        kept = exception.__dict__  # no class attribute takes precedence over it
        return not kept or wanted.isdisjoint(kept)

    return lacks_all


def class_has_none_of(kind: type, names: frozenset[str]) -> bool:
    """Whether exceptions of exactly this class are read plainly, and could have these attributes only in their own
    dictionaries."""
    return reads_plainly(kind) and all(names.isdisjoint(_get_members_of_class(base)) for base in bases_of(kind))


def reads_plainly(kind: type) -> bool:
    """Whether the fields of ``BaseException`` and the instance dictionary can be read by name from exceptions of
    exactly this class: nothing overrides them, and no ``__getattr__`` invents any."""
    plain, found = True, False
    for base in bases_of(kind):
        members = _get_members_of_class(base)
        found = found or base is BaseException
        if "__getattr__" in members or ("__getattribute__" in members and not found):
            return False
        # A class without slots always has a `__dict__` descriptor; it must be the exception's.
        plain = plain and (found or not any(_comes_before(name, members) for name in _FIELDS & members.keys()))
    return plain and found


def _comes_before(name: str, members: Mapping[str, object]) -> bool:
    return name != "__dict__" or type(members[name]) is not GetSetDescriptorType


# The descriptors themselves: a wrapper function would double the cost for every failure.
args_of: Final[Callable[[BaseException], tuple[Any, ...]]] = BaseException.__dict__["args"].__get__
"""The arguments that the exception was made with."""
cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__cause__"].__get__
"""The explicit cause (``raise … from cause``)."""
context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__context__"].__get__
"""The exception that was being handled when this one was raised."""
traceback_of: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__["__traceback__"].__get__
"""The frames that it has passed through."""
bases_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
"""The class and its bases, in the order in which attributes are looked up."""
dict_of: Final[Callable[[BaseException], dict[str, Any]]] = BaseException.__dict__["__dict__"].__get__
"""The attributes of the exception itself."""


def reason_of(exception: BaseException) -> BaseException | None:
    """The exception that a traceback shows above it: the cause, else the context unless ``from None`` hides it."""
    cause = cause_of(exception)
    if cause is None and not _get_suppress_context(exception):
        return context_of(exception)
    return cause


def members_of(group: BaseExceptionGroup[BaseException]) -> tuple[BaseException, ...]:
    """The exceptions in a group, as they are."""
    return _get_members(group)  # type: ignore[no-any-return]


def causes_of(exception: BaseException) -> Iterator[BaseException]:
    """The explicit causes, nearest first; ends if they repeat, and after :data:`MAX_CHAIN`."""
    seen = {id(exception)}
    cause = cause_of(exception)
    while cause is not None and id(cause) not in seen and len(seen) <= MAX_CHAIN:
        yield cause
        seen.add(id(cause))
        cause = cause_of(cause)


def leaves_of(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in a group and in its nested groups, without the groups; each object once."""
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


def name_of(kind: type) -> str:
    """Module and qualified name of a class; ``?`` for a part that is not a string."""
    parts = (_get_module(kind), _get_qualname(kind))
    return ".".join(part if isinstance(part, str) else "?" for part in parts)


def text_of(value: object) -> str:
    """``str(value)``, or the name of its class if that fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # a broken __str__ must not hide what failed
        return type(value).__name__


def repr_of(exception: BaseException) -> str:
    """``repr(exception)``, or the name of its class if that fails."""
    try:
        return repr(exception)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not hide what failed
        return type(exception).__name__


def header_of(headers: object, name: str) -> str | None:
    """The value of ``name`` (lower case) in something like HTTP headers, whatever the capitalization there.

    Headers are a mapping, or a series of pairs. ``None`` if there is no such string, or the headers cannot be read.
    """
    if headers is None:
        return None
    try:
        if _finds_any_spelling(type(headers)):  # type: ignore[arg-type]  # as for other classes
            return _as_text(headers.get(name)) if name in headers else None  # type: ignore[attr-defined,operator]  # all have both; a miss of `get` raises and catches
        get = getattr(headers, "get", None)
        value = None if get is None else _as_text(get(name))
        if value is not None:
            return value
        items = getattr(headers, "items", None)
        pairs: Any = headers if items is None else items()
        for key, each in islice(pairs, _MAX_PAIRS):
            text = _as_text(key)
            if text is not None and text.lower() == name:
                return _as_text(each)
    except Exception:  # noqa: BLE001  # any object may have an attribute with a name that headers often have
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
    """Whether ``get`` of these headers ignores case, so that searching them one by one finds nothing more."""
    return any(name_of(base) in _ANY_SPELLING for base in bases_of(kind))


def _as_text(value: object) -> str | None:
    if value is None or type(value) is str:
        return value
    if is_a(value, bytes):
        return value.decode("latin-1")
    if is_a(value, (int, float)):
        return str(value)  # from headers that were read from JSON
    return value if is_a(value, str) else None
