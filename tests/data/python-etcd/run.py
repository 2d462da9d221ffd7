"""Runs tests of python-etcd 0.4.5's own integration suite by name: `run.py <module.Class.test>...`.

The suite is of 2016, so what it stands on is put under it: `nose` does not run on any Python of
today, `assertEquals` went with Python 3.12, and `OpenSSL` is only imported for certificates that
no test named here makes. The suite itself is as it was published, but for its waits of two seconds
after an etcd was started or killed: it waits until the etcd serves, or has ended.

Prints `ok <name>` or `FAIL <name>` for every test, and why.
"""

import socket
import sys
import time
import types
import unittest
import urllib.error
import urllib.request

# Only a hang takes longer.
LIMIT_SECONDS = 60
# A member before which a proxy stands has its ports so far above the proxy's.
MEMBER_OFFSET = 100


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

helpers.time = types.SimpleNamespace(sleep=lambda _: None)


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if end < time.monotonic():
            raise TimeoutError(what)
        time.sleep(0.02)


def serves(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/keys/?quorum=true", timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False


def is_closed(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class EtcdProcessHelper(helpers.EtcdProcessHelper):
    def run(self, *args, **named):
        super().run(*args, **named)
        for slot in self.processes:
            port = self.port_range_start + slot
            wait_until(lambda: serves(port), f"port {port} is not served")

    def kill_one(self, slot):
        _, process = self.processes[slot]
        process.kill()
        process.wait()
        # The member behind a proxy dies with it, a moment later.
        port = self.port_range_start + slot + MEMBER_OFFSET
        wait_until(lambda: is_closed(port), f"port {port} is still open")
        super().kill_one(slot)


helpers.EtcdProcessHelper = EtcdProcessHelper


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
