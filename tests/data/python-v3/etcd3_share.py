"""A pytest plugin for etcd3's own tests: leaves out those that an etcd fails, and runs a share of
the others.

`ETCD3_EXCLUDED` names the file with the excluded tests, `ETCD3_SHARE` the share: `0/3` to `2/3`.
"""

import os


def excluded():
    with open(os.environ["ETCD3_EXCLUDED"], encoding="utf-8") as lines:
        return {line.split()[0] for line in lines if line.startswith("test_")}


def pytest_collection_modifyitems(items):
    names = {item.name.split("[")[0] for item in items}
    misspelt = excluded() - names
    assert not misspelt, f"the suite has no {misspelt}"
    share, shares = map(int, os.environ["ETCD3_SHARE"].split("/"))
    chosen = [item for item in items if item.name.split("[")[0] not in excluded()]
    items[:] = chosen[share::shares]
