"""Compiled kernels on several threads: a list of tasks runs in order, the parts of one task on all threads at once.

Everything here is machine code that runs without the interpreter lock, so that a task may be as short as a few
microseconds. A thread takes the next part of the current task by one atomic exchange; the caller takes parts too and
waits only for parts that another thread has begun, so a thread that the system does not run delays nothing. Helpers
spin for a while between tasks, then sleep. Parts are ranges of independent outputs: how many there are and who
computes them changes no bit.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding as llvm

from ml.kernels.machine import machine_code

Words = np.ndarray[Any, np.dtype[np.int64]]

TASK_WORDS = 5
"""A task: the kernel's address, the address of its numbers, items, items of a part, parts."""
SCRATCH_BYTES = 1 << 21
"""What a kernel may use while it runs, per thread."""
SPINS = 4_000
"""Looks for work before a helper sleeps: some 100 microseconds, longer than most gaps inside a step."""

_SHARED_BYTES = 1024
_ASSEMBLY = """
target triple = "{triple}"
declare void {pause}
declare i32 @sched_yield()
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)

; The shared block: the word (generation << 32 | parts not taken), then, each in a cache line of its own, the current
; task, the parts done, the helpers asleep, whether to stop, the mutex and the condition that sleepers wait on.

define internal ptr @line(ptr %shared, i64 %number) alwaysinline {{
  %offset = mul i64 %number, 128
  %at = getelementptr i8, ptr %shared, i64 %offset
  ret ptr %at
}}

define void @prepare(i64 %shared.address) {{
  %shared = inttoptr i64 %shared.address to ptr
  %mutex = call ptr @line(ptr %shared, i64 5)
  %condition = call ptr @line(ptr %shared, i64 6)
  call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  call i32 @pthread_cond_init(ptr %condition, ptr null)
  ret void
}}

define internal void @wake(ptr %shared) {{
  %mutex = call ptr @line(ptr %shared, i64 5)
  %condition = call ptr @line(ptr %shared, i64 6)
  call i32 @pthread_mutex_lock(ptr %mutex)
  call i32 @pthread_cond_broadcast(ptr %condition)
  call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}}

define void @finish(i64 %shared.address) {{
  %shared = inttoptr i64 %shared.address to ptr
  %stop = call ptr @line(ptr %shared, i64 4)
  store atomic i64 1, ptr %stop seq_cst, align 8
  call void @wake(ptr %shared)
  ret void
}}

define internal void @part(ptr %task, i64 %number, i64 %scratch) {{
  %kernel.at = getelementptr i64, ptr %task, i64 0
  %numbers.at = getelementptr i64, ptr %task, i64 1
  %items.at = getelementptr i64, ptr %task, i64 2
  %size.at = getelementptr i64, ptr %task, i64 3
  %kernel.address = load i64, ptr %kernel.at
  %numbers = load i64, ptr %numbers.at
  %items = load i64, ptr %items.at
  %size = load i64, ptr %size.at
  %first = mul i64 %number, %size
  %beyond = add i64 %first, %size
  %inside = icmp slt i64 %beyond, %items
  %end = select i1 %inside, i64 %beyond, i64 %items
  %kernel = inttoptr i64 %kernel.address to ptr
  call void %kernel(i64 %numbers, i64 %first, i64 %end, i64 %scratch)
  ret void
}}

; Takes and runs one part of the current task; whether there was one.
define internal i1 @take(ptr %shared, i64 %scratch) {{
entry:
  %seen = load atomic i64, ptr %shared acquire, align 8
  br label %try
try:
  %word = phi i64 [ %seen, %entry ], [ %now, %again ]
  %left = and i64 %word, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %empty, label %claim
claim:
  %less = sub i64 %word, 1
  %outcome = cmpxchg ptr %shared, i64 %word, i64 %less acq_rel acquire
  %won = extractvalue {{ i64, i1 }} %outcome, 1
  br i1 %won, label %run, label %again
again:
  %now = extractvalue {{ i64, i1 }} %outcome, 0
  br label %try
run:
  %number = sub i64 %left, 1
  %task.at = call ptr @line(ptr %shared, i64 1)
  %task.address = load atomic i64, ptr %task.at acquire, align 8
  %task = inttoptr i64 %task.address to ptr
  call void @part(ptr %task, i64 %number, i64 %scratch)
  %done = call ptr @line(ptr %shared, i64 2)
  %before = atomicrmw add ptr %done, i64 1 acq_rel
  ret i1 true
empty:
  ret i1 false
}}

define void @helper(i64 %shared.address, i64 %scratch) {{
entry:
  %shared = inttoptr i64 %shared.address to ptr
  %asleep = call ptr @line(ptr %shared, i64 3)
  %stop = call ptr @line(ptr %shared, i64 4)
  %mutex = call ptr @line(ptr %shared, i64 5)
  %condition = call ptr @line(ptr %shared, i64 6)
  br label %look
look:
  %spins = phi i64 [ 0, %entry ], [ 0, %worked ], [ %spun, %spin ], [ 0, %woken ]
  %found = call i1 @take(ptr %shared, i64 %scratch)
  br i1 %found, label %worked, label %idle
worked:
  br label %look
idle:
  %spun = add i64 %spins, 1
  %enough = icmp sgt i64 %spun, {spins}
  br i1 %enough, label %sleep, label %spin
spin:
  call void {pause_call}
  br label %look
sleep:
  call i32 @pthread_mutex_lock(ptr %mutex)
  %sleepers = atomicrmw add ptr %asleep, i64 1 seq_cst
  br label %check
check:
  %word = load atomic i64, ptr %shared seq_cst, align 8
  %left = and i64 %word, 4294967295
  %stopped = load atomic i64, ptr %stop seq_cst, align 8
  %either = or i64 %left, %stopped
  %nothing = icmp eq i64 %either, 0
  br i1 %nothing, label %wait, label %woken.locked
wait:
  call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %check
woken.locked:
  %sleepers.now = atomicrmw sub ptr %asleep, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr %mutex)
  %over = icmp ne i64 %stopped, 0
  br i1 %over, label %end, label %woken
woken:
  br label %look
end:
  ret void
}}

; Runs `count` tasks in order; without a shared block on this thread alone.
define void @execute(i64 %shared.address, i64 %tasks.address, i64 %count, i64 %scratch) {{
entry:
  %shared = inttoptr i64 %shared.address to ptr
  %tasks = inttoptr i64 %tasks.address to ptr
  %alone = icmp eq i64 %shared.address, 0
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %next, label %end
next:
  %number = phi i64 [ 0, %entry ], [ %following, %continue ]
  %offset = mul i64 %number, {task_words}
  %task = getelementptr i64, ptr %tasks, i64 %offset
  %parts.at = getelementptr i64, ptr %task, i64 4
  %parts = load i64, ptr %parts.at
  %whole = icmp slt i64 %parts, 2
  %inline = or i1 %whole, %alone
  br i1 %inline, label %serial, label %publish
serial:
  %kernel.at = getelementptr i64, ptr %task, i64 0
  %numbers.at = getelementptr i64, ptr %task, i64 1
  %items.at = getelementptr i64, ptr %task, i64 2
  %kernel.address = load i64, ptr %kernel.at
  %numbers = load i64, ptr %numbers.at
  %items = load i64, ptr %items.at
  %kernel = inttoptr i64 %kernel.address to ptr
  call void %kernel(i64 %numbers, i64 0, i64 %items, i64 %scratch)
  br label %continue
publish:
  %task.line = call ptr @line(ptr %shared, i64 1)
  %done = call ptr @line(ptr %shared, i64 2)
  %asleep = call ptr @line(ptr %shared, i64 3)
  %task.number = ptrtoint ptr %task to i64
  store atomic i64 %task.number, ptr %task.line release, align 8
  store atomic i64 0, ptr %done release, align 8
  %word = load atomic i64, ptr %shared monotonic, align 8
  %generation = lshr i64 %word, 32
  %new.generation = add i64 %generation, 1
  %high = shl i64 %new.generation, 32
  %new.word = or i64 %high, %parts
  store atomic i64 %new.word, ptr %shared seq_cst, align 8
  %sleepers = load atomic i64, ptr %asleep seq_cst, align 8
  %somebody = icmp ne i64 %sleepers, 0
  br i1 %somebody, label %rouse, label %work
rouse:
  call void @wake(ptr %shared)
  br label %work
work:
  %took = call i1 @take(ptr %shared, i64 %scratch)
  br i1 %took, label %work, label %await
await:
  %waits = phi i64 [ 0, %work ], [ %waited, %pause ], [ 0, %yield ]
  %finished = load atomic i64, ptr %done acquire, align 8
  %all = icmp eq i64 %finished, %parts
  br i1 %all, label %continue, label %impatient
impatient:
  %waited = add i64 %waits, 1
  %long = icmp sgt i64 %waited, {spins}
  br i1 %long, label %yield, label %pause
pause:
  call void {pause_call}
  br label %await
yield:
  call i32 @sched_yield()
  br label %await
continue:
  %following = add i64 %number, 1
  %more = icmp slt i64 %following, %count
  br i1 %more, label %next, label %end
end:
  ret void
}}
"""


@dataclass(frozen=True)
class _Code:
    prepare: Callable[[int], None]
    finish: Callable[[int], None]
    helper: Callable[[int, int], None]
    execute: Callable[[int, int, int, int], None]


@lru_cache(maxsize=1)
def _code() -> _Code:
    arm = platform.machine().lower() in ("arm64", "aarch64")
    pause, call = ("@llvm.aarch64.hint(i32)", "@llvm.aarch64.hint(i32 1)") if arm else ("@llvm.x86.sse2.pause()",) * 2
    text = _ASSEMBLY.format(
        triple=llvm.get_process_triple(), pause=pause, pause_call=call, spins=SPINS, task_words=TASK_WORDS
    )
    addresses = machine_code(text, "prepare", "finish", "helper", "execute")
    kinds = [ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count) for count in (1, 1, 2, 4)]
    return _Code(*(kind(address) for kind, address in zip(kinds, addresses, strict=True)))


class _Helpers:
    """Threads beside the caller's, and the block of memory by which they are told what to do."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lock = threading.Lock()
        """Held by the one caller that has the helpers."""
        self._memory = np.zeros(_SHARED_BYTES + 128, np.uint8)
        self.address = -(-self._memory.ctypes.data // 128) * 128
        code = _code()
        code.prepare(self.address)
        self._scratch = [_Scratch() for _ in range(count)]
        self._threads = [
            threading.Thread(target=code.helper, args=(self.address, scratch.address), daemon=True, name="kernel")
            for scratch in self._scratch
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, once the caller that has them is done."""
        with self.lock:
            _code().finish(self.address)
            for thread in self._threads:
                thread.join()


class _Scratch:
    """A thread's scratch memory, aligned to cache lines."""

    def __init__(self) -> None:
        self._memory = np.empty(SCRATCH_BYTES + 64, np.uint8)
        self.address = -(-self._memory.ctypes.data // 64) * 64


class _Local(threading.local):
    def __init__(self) -> None:
        self.scratch = _Scratch()


_local = _Local()
_helpers: _Helpers | None = None


def set_helpers(count: int) -> None:
    """How many threads help the one that calls."""
    global _helpers
    if count == helpers():
        return
    if _helpers is not None:
        _helpers.stop()
    _helpers = _Helpers(count) if count else None


def helpers() -> int:
    """How many threads help now."""
    return _helpers.count if _helpers is not None else 0


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _helpers
    _helpers = None


os.register_at_fork(after_in_child=_forget)


def execute(tasks: int, count: int) -> None:
    """Run `count` tasks that lie at an address, in order. A second caller meanwhile works alone."""
    team = _helpers
    if team is None or not team.lock.acquire(blocking=False):
        execute_alone(tasks, count)
        return
    try:
        _code().execute(team.address, tasks, count, _local.scratch.address)
    finally:
        team.lock.release()


def execute_alone(tasks: int, count: int) -> None:
    """Run tasks on the calling thread."""
    _code().execute(0, tasks, count, _local.scratch.address)
