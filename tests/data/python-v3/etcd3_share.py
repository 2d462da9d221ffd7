"""A pytest plugin for etcd3's own tests: leaves out those that an etcd fails, and runs a share of
the others.

Clients without an address have that of `PYTHON_ETCD_HTTP_URL`, and not port 2379.
`ETCD3_EXCLUDED` names the file with the excluded tests, `ETCD3_SHARE` the share: `0/3` to `2/3`.
"""

import os
from urllib.parse import urlparse

import etcd3


def pytest_configure():
    url = urlparse(os.environ["PYTHON_ETCD_HTTP_URL"])
    client = etcd3.client
    client.__defaults__ = (url.hostname, url.port) + client.__defaults__[2:]


def excluded():
    with open(os.environ["ETCD3_EXCLUDED"], encoding="utf-8") as lines:
        return {line.split()[0] for line in lines if line.startswith("test_")}


def pytest_collection_modifyitems(items):
    names = {item.name.split("[")[0] for item in items}
    misspelt = excluded() - names
    assert not misspelt, f"the suite has no {misspelt}"
    share, shares = map(int, os.environ["ETCD3_SHARE"].split("/"))
    chosen = [item for item in items if item.name.split("[")[0] not in excluded()]
    # It needs three members, which the first share has.
    chosen.sort(key=lambda item: item.name != "test_member_list")
    items[:] = chosen[share::shares]
