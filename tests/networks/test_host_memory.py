import platform
import subprocess
import sys

import pytest

from autoseg.networks.host_memory import keep_freed_memory

# The second array of a size, after the first was freed: how many pages the system gives anew.
PAGES = """
import resource, sys
import numpy as np
from autoseg.networks.host_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    assert keep_freed_memory()
np.ones(6_000_000, dtype=np.float64)
before = faults()
np.ones(6_000_000, dtype=np.float64)
print(faults() - before)
"""


def pages(how: str) -> int:
    words = [sys.executable, "-c", PAGES, how]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library cannot")
def test_freed_memory_is_used_again():
    assert pages("kept") < 5
    assert pages("given back") > 5


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
