"""A forked child process starts with every lock free, whatever the parent held, and outside of any call."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import contextlib, importlib, os, pkgutil, sys, threading
    import otel_resilience
    from otel_resilience import Policy, add_hooks, remove_hooks, Hooks, disabled
    from otel_resilience._internal.forks import ProcessLock

    for module in pkgutil.walk_packages(otel_resilience.__path__, "otel_resilience."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    raw = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    modules = [module for name, module in sys.modules.items() if name.startswith("otel_resilience")]
    globals_ = [(module.__name__, name, value) for module in modules for name, value in vars(module).items()]
    unsafe = [f"{module}.{name}" for module, name, value in globals_ if isinstance(value, raw)]
    assert not unsafe, f"these locks do not survive a fork: {unsafe}"
    locks = [value for _, _, value in globals_ if isinstance(value, ProcessLock)]
    assert len(set(map(id, locks))) >= 5, locks
    held, release = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in {id(lock): lock for lock in locks}.values():
                stack.enter_context(lock)
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        hooks = Hooks()
        add_hooks(hooks)
        remove_hooks(hooks)
        otel_resilience.redaction.register_secret("correct horse")
        with disabled():
            pass
        os._exit(0 if Policy("supplier", attempt_timeout=30).execute(lambda: "value") == "value" else 1)
    release.set()
    thread.join()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
)


WORKERS = textwrap.dedent(
    """
    import asyncio, concurrent.futures, multiprocessing, time
    from otel_resilience import Policy, current_attempt, remaining

    inner = Policy("inner", max_concurrency=1)
    outer = Policy("outer", deadline=0.2, max_concurrency=1)

    def task():
        return remaining(), current_attempt(), inner.execute(lambda: "value")

    async def submit(pool):
        return await asyncio.wrap_future(pool.submit(task))

    for asynchronous in (False, True):
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            if asynchronous:
                first = asyncio.run(outer.execute(submit, pool, deadline=60))
            else:
                first = outer.execute(lambda: pool.submit(task).result())
            time.sleep(0.3)
            assert first == pool.submit(task).result() == (None, 1, "value"), first
    """
)


def succeeds(script: str) -> None:
    """In an interpreter of its own: a test runner has threads."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
@pytest.mark.fault("F57")
def test_a_process_that_was_forked_within_a_call_is_not_inside_of_it() -> None:
    """As the workers of a pool are at its first use: the deadline of that call is not one of all their later tasks."""
    succeeds(WORKERS)


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
@pytest.mark.fault("F57")
def test_no_lock_of_a_module_is_inherited_held() -> None:
    succeeds(SCRIPT)
