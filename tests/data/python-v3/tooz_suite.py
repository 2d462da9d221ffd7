"""Runs a share of tooz's own tests of its etcd3gw driver. `TOOZ_SHARE` names it: `0/3` to `2/3`.

The tests of all drivers are one module, which imports the drivers. That of `sysv_ipc` would have to
be compiled, and of it only two constants are needed.
"""

import os
import sys
import types
import unittest

sysv_ipc = sys.modules["sysv_ipc"] = types.ModuleType("sysv_ipc")
sysv_ipc.KEY_MIN, sysv_ipc.KEY_MAX = 0, 2**31 - 1

MODULES = ["tooz.tests.test_coordination", "tooz.tests.drivers.test_etcd3gw"]


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


# Some tests start processes, which import this module again.
if __name__ == "__main__":
    share, shares = map(int, os.environ["TOOZ_SHARE"].split("/"))
    tests = list(flat(unittest.defaultTestLoader.loadTestsFromNames(MODULES)))
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(tests[share::shares]))
    sys.exit(not result.wasSuccessful())
