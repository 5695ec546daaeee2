"""The lock of a home: one process at a time, and a killed one leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gensyn_node.config.home import Home, lock_home
from gensyn_node.config.reasons import HOME_IN_USE
from gensyn_node.primitives.errors import Rejection

HOLDER = """
import sys, time
from pathlib import Path
from gensyn_node.config.home import Home, lock_home
with lock_home(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_home_in_use_is_refused_each_time_and_free_after_kill_9(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for _ in range(100):
            with pytest.raises(Rejection) as caught, lock_home(Home(tmp_path)):
                pass
            assert caught.value.reason is HOME_IN_USE
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with lock_home(Home(tmp_path)):
        pass
