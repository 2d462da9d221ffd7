"""Runs tests of python-etcd 0.4.5's own integration suite by name: `run.py <module.Class.test>...`.

The suite is of 2016, so what it stands on is put under it: `nose` does not run on any Python of
today, `assertEquals` went with Python 3.12, and `OpenSSL` is only imported for certificates that
no test named here makes. The suite itself is as it was published, but for its waits after starting
and killing an etcd, two seconds each, which are shortened.

Prints `ok <name>` or `FAIL <name>` for every test, and why.
"""

import sys
import time
import types
import unittest

START_SECONDS = 0.7


def module(name, **contents):
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    sys.modules[name] = made
    return made


def nottest(function):
    function.__test__ = False
    return function


module("nose").tools = module("nose.tools", nottest=nottest)
module("OpenSSL").crypto = module("OpenSSL.crypto")
unittest.TestCase.assertEquals = unittest.TestCase.assertEqual

from etcd.tests.integration import helpers  # noqa: E402

helpers.time = types.SimpleNamespace(sleep=lambda _: time.sleep(START_SECONDS))


class Result(unittest.TestResult):
    def addSuccess(self, test):
        print("ok", test.id(), flush=True)

    def fail(self, test, error):
        text = self._exc_info_to_string(error, test)
        print("FAIL", test.id(), "\n", text, flush=True)

    def addError(self, test, error):
        super().addError(test, error)
        self.fail(test, error)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.fail(test, error)


if __name__ == "__main__":
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
    result = Result()
    suite.run(result)
    sys.exit(not result.wasSuccessful())
