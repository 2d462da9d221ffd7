"""Runs etcd3gw's own tests, all of them.

Of `oslotest`, which would install twenty packages more, the tests use only a base class that is
unittest's with more.
"""

import sys
import types
import unittest

oslotest = sys.modules["oslotest"] = types.ModuleType("oslotest")
oslotest.base = sys.modules["oslotest.base"] = types.ModuleType("oslotest.base")
oslotest.base.BaseTestCase = unittest.TestCase

MODULES = ["etcd3gw.tests.test_client", "etcd3gw.tests.test_etcd3gw"]

if __name__ == "__main__":
    unittest.main(module=None, argv=["etcd3gw", "-v", *MODULES])
