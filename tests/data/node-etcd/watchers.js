// The cases of the suite's `watcher.coffee`.

'use strict';

const assert = require('assert');
const { once } = require('events');
const net = require('net');
const { Etcd, URL, call, etcd, get, set } = require('./calls');

// More events than a server keeps.
const EVENTS = 1100;

const watchers = new Map();
const test = (name, run) => watchers.set(`Watcher ${name}`, run);

const indexOf = (answer) => answer.body.node.modifiedIndex;

// A watcher of a key from before the changes that follow; `run` is its test.
async function watching(key, run, options = {}) {
  const from = indexOf(await set(`${key}-before`, 'value')) + 1;
  const watcher = etcd.watcher(key, from, options);
  try {
    await run(watcher, from);
  } finally {
    watcher.stop();
  }
}

test('should emit change on watch change', () => watching('change', async (watcher) => {
  const change = once(watcher, 'change');
  const index = indexOf(await set('change', 'value'));
  const [seen] = await change;
  assert.strictEqual(seen.node.modifiedIndex, index);
}));
test('should use provided options', () => watching('deep', async (watcher) => {
  const change = once(watcher, 'change');
  await set('deep/a/b', 'value');
  const [seen] = await change;
  assert.strictEqual(seen.node.key, '/deep/a/b');
}, { recursive: true }));
test('should emit action on event', () => watching('actions', async (watcher) => {
  const events = ['set', 'compareAndSwap', 'delete', 'expire'].map((event) => once(watcher, event));
  await set('actions', 'value');
  await call(etcd, 'compareAndSwap', 'actions', 'next', 'value');
  await call(etcd, 'del', 'actions');
  await set('actions', 'value', { ttl: 1 });
  const [, [swapped], [deleted], [expired]] = await Promise.all(events);
  assert.strictEqual(swapped.prevNode.value, 'value');
  assert.strictEqual(deleted.prevNode.value, 'next');
  assert.strictEqual(expired.node.key, '/actions');
}));
test('should call watch on next index after getting change', () => watching('next', async (watcher) => {
  const seen = [];
  const all = new Promise((resolve) => {
    watcher.on('change', (change) => {
      seen.push(change.node.value);
      if (seen.length === 20) resolve();
    });
  });
  for (let value = 0; value < 20; value += 1) await set('next', String(value));
  await all;
  assert.deepStrictEqual(seen, Array.from({ length: 20 }, (_, value) => String(value)));
}));

// A host that breaks its first two connections, and passes the others to the server. With a watcher
// there; both end with `run`.
async function reconnecting(run) {
  let broken = 0;
  const { port, hostname } = new globalThis.URL(URL);
  const host = net.createServer((client) => {
    client.on('error', () => {});
    if (broken < 2) {
      broken += 1;
      client.destroy();
      return;
    }
    const server = net.connect(port, hostname);
    server.on('error', () => client.destroy());
    client.pipe(server).pipe(client);
  });
  host.listen(0, '127.0.0.1');
  await once(host, 'listening');
  const from = indexOf(await set('broken', 'value'));
  const client = new Etcd(`127.0.0.1:${host.address().port}`, { agent: false });
  const watcher = client.watcher('broken', from, { maxRetries: 1 });
  try {
    await run(watcher);
  } finally {
    watcher.stop();
    host.close();
  }
}

test('should emit reconnect event on error', () => reconnecting(async (watcher) => {
  const [error] = await once(watcher, 'reconnect');
  assert.strictEqual(error.error.errors[0].httperror.code, 'ECONNRESET');
}));
test('should reconnect (call watch again) on error', () => reconnecting(async (watcher) => {
  const [seen] = await once(watcher, 'change');
  assert.strictEqual(seen.node.value, 'value');
}));
test('should abort request when stop is called', () => watching('stopped', async (watcher) => {
  watcher.on('change', () => assert.fail('a change after the stop'));
  watcher.stop();
  assert(watcher.request.isAborted ? watcher.request.isAborted() : watcher.request.aborted);
  await set('stopped', 'value');
  await get('stopped');
}));
test('should emit stop when stopped', () => watching('stopped', async (watcher) => {
  const stopped = once(watcher, 'stop');
  watcher.stop();
  await stopped;
}));
test('resync should resync if index is outdated and cleared', async () => {
  const first = indexOf(await set('cleared', 'first'));
  for (let rest = EVENTS; rest > 0; rest -= 100) {
    await Promise.all(Array.from({ length: 100 }, () => set('other', 'value')));
  }
  const watcher = etcd.watcher('cleared', first);
  const [error] = await once(watcher, 'resync');
  assert.strictEqual(error.errorCode, 401);
  assert.strictEqual(error.message, 'The event in requested index is outdated and cleared');
  assert(error.error.index >= first + EVENTS);
  const change = once(watcher, 'change');
  await set('cleared', 'banan');
  assert.strictEqual((await change)[0].node.value, 'banan');
  watcher.stop();
});

module.exports = { watchers };
