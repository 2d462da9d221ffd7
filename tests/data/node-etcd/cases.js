// The cases of the suite's `index.coffee`.

'use strict';

const assert = require('assert');
const fs = require('fs');
const { Etcd, URL, call, closed, etcd, fails, get, has, set } = require('./calls');

const HOST = URL.replace('http://', '');
const TLS_URL = process.env.ETCD_TLS_URL;

const cases = new Map();
let group = '';
const test = (name, run) => cases.set(`${group} ${name}`, run);

async function connects(hosts, options) {
  await set('key', 'value');
  has(await call(new Etcd(hosts, options), 'get', 'key'), 'get', { value: 'value' });
}

const trusting = () => ({ ca: fs.readFileSync(process.env.ETCD_CA) });

group = 'Connecting';
test('should support string as connect host', () => connects(HOST));
test('should support string prefixed by http:// as host', () => connects(URL));
test('should support string postfixed by / as host', () => connects(`${URL}/`));
test('should support array of strings as host', () => connects([URL]));
test('should support https strings', () => connects([TLS_URL], trusting()));

group = 'SSL support';
test('passes ssl options to request lib', async () => {
  await connects(TLS_URL, trusting());
  const error = await fails(new Etcd(TLS_URL), 'get', 'key', { maxRetries: 0 });
  assert.match(error.errors[0].httperror.code, /SELF_SIGNED|UNABLE_TO_VERIFY/);
});

group = 'Basic auth';
test('should support basic auth', async () => {
  const root = new Etcd(URL, { auth: { user: 'root', pass: 'password' } });
  const raw = (client, method, path, body) => new Promise((resolve, reject) => {
    const options = { path: `/v2/auth/${path}`, json: body || true };
    client.client.execute(method, options, (error, answer) => {
      if (error) reject(error);
      else resolve(answer);
    });
  });
  await raw(etcd, 'PUT', 'users/root', { user: 'root', password: 'password' });
  await raw(etcd, 'PUT', 'enable');
  const guest = await raw(root, 'GET', 'roles/guest');
  const none = { kv: { read: ['/*'], write: ['/*'] } };
  await raw(root, 'PUT', 'roles/guest', { role: guest.role, revoke: none });
  assert.strictEqual((await fails(etcd, 'get', 'key')).error.errorCode, 110);
  const wrong = new Etcd(URL, { auth: { user: 'root', pass: 'wrong' } });
  assert.strictEqual((await fails(wrong, 'get', 'key')).error.errorCode, 110);
  has(await call(root, 'get', 'key'), 'get', { value: 'value' });
  await raw(root, 'DELETE', 'enable');
  has(await get('key'), 'get', { value: 'value' });
});

group = 'Basic functions #get()';
test('should return entry from etcd', async () => {
  await set('key', 'value');
  const got = await get('key');
  has(got, 'get', { key: '/key', value: 'value' });
  assert(Number(got.headers['x-etcd-index']) >= got.body.node.modifiedIndex);
});
test('should send options to etcd as request url', async () => {
  await set('tree/a/b', 'value');
  const { body } = await get('tree', { recursive: true });
  assert.strictEqual(body.node.nodes[0].nodes[0].value, 'value');
});
test('should callback with error on error', async () => {
  const error = await fails(etcd, 'get', 'no-such-key');
  assert.strictEqual(error.error.errorCode, 100);
  assert.strictEqual(error.message, 'Key not found');
});

group = 'Basic functions #getSync()';
test('should synchronously return entry from etcd', async () => {
  has(etcd.getSync('key'), 'get', { value: 'value' });
});
test('should synchronously return with error on error', async () => {
  const { err } = etcd.getSync('no-such-key');
  assert(err instanceof Error);
  assert.strictEqual(err.error.errorCode, 100);
  assert.strictEqual(err.message, 'Key not found');
});

group = 'Basic functions #set()';
test('should put to etcd', async () => {
  await set('key', 'other');
  const put = await set('key', 'value');
  has(put, 'set', { key: '/key', value: 'value' });
  assert.strictEqual(put.body.prevNode.value, 'other');
});
test('should send options to etcd as request url', async () => {
  await set('key', 'oldvalue');
  has(await set('key', 'value', { prevValue: 'oldvalue' }), 'compareAndSwap', { value: 'value' });
  const error = await fails(etcd, 'set', 'key', 'value', { prevValue: 'oldvalue' });
  assert.strictEqual(error.errorCode, 101);
});

group = 'Basic functions';
test('#setSync() should synchronously put to etcd', async () => {
  has(etcd.setSync('key', 'value'), 'set', { value: 'value' });
});
test('#create() should post value to dir', async () => {
  const first = (await call(etcd, 'create', 'queue', 'value')).body.node;
  const second = await call(etcd, 'create', 'queue', 'value');
  has(second, 'create', { value: 'value' });
  assert.match(first.key, /^\/queue\/\d{20}$/);
  assert(second.body.node.key > first.key);
});
test('#post() should post value to key', async () => {
  has(await call(etcd, 'post', 'queue', 'value'), 'create', { value: 'value' });
});
test('#compareAndSwap() should set using prevValue', async () => {
  await set('key', 'oldvalue');
  const swapped = await call(etcd, 'compareAndSwap', 'key', 'value', 'oldvalue');
  has(swapped, 'compareAndSwap', { value: 'value' });
});
test('#compareAndSwap() has alias testAndSet', async () => {
  const swapped = await call(etcd, 'testAndSet', 'key', 'next', 'value');
  has(swapped, 'compareAndSwap', { value: 'next' });
});
test('#compareAndDelete should delete using prevValue', async () => {
  await set('key', 'oldvalue');
  assert.strictEqual((await fails(etcd, 'compareAndDelete', 'key', 'value')).errorCode, 101);
  const deleted = await call(etcd, 'compareAndDelete', 'key', 'oldvalue');
  has(deleted, 'compareAndDelete', { key: '/key', value: undefined });
});
test('#compareAndDelete has alias testAndDelete', async () => {
  await set('key', 'value');
  has(await call(etcd, 'testAndDelete', 'key', 'value'), 'compareAndDelete', { key: '/key' });
});
test('#mkdir() should create directory', async () => {
  has(await call(etcd, 'mkdir', 'dir'), 'set', { key: '/dir', dir: true });
});
test('#mkdir() should work when no options or callback given - bug #56', async () => {
  const seen = call(etcd, 'watch', 'dir56');
  // The next request of this connection follows it.
  const timer = setInterval(() => etcd.mkdir('dir56'), 50);
  has(await seen, 'set', { key: '/dir56', dir: true });
  clearInterval(timer);
});
test('#mkdirSync() should synchronously create directory', async () => {
  has(etcd.mkdirSync('dir-sync'), 'set', { key: '/dir-sync', dir: true });
});
test('#rmdir() should remove directory', async () => {
  has(await call(etcd, 'rmdir', 'dir'), 'delete', { key: '/dir', dir: true });
  assert.strictEqual((await fails(etcd, 'rmdir', 'tree')).errorCode, 108);
});
test('#rmdirSync() should synchronously remove directory', async () => {
  has(etcd.rmdirSync('dir-sync'), 'delete', { dir: true });
});
test('#del() should delete a given key in etcd', async () => {
  await set('key', 'value');
  has(await call(etcd, 'del', 'key'), 'delete', { key: '/key' });
});
test('#delSync() should synchronously delete a given key in etcd', async () => {
  await set('key2', 'value');
  has(etcd.delSync('key2'), 'delete', { key: '/key2' });
});
test('#watch() should do a get with wait=true', async () => {
  const seen = call(etcd, 'watch', 'watched');
  const timer = setInterval(() => etcd.set('watched', 'value'), 50);
  has(await seen, 'set', { value: 'value' });
  clearInterval(timer);
});
test('#watchIndex() should do a get with wait=true and waitIndex=x', async () => {
  const index = (await set('watched', 'then')).body.node.modifiedIndex;
  await set('watched', 'now');
  const seen = await call(etcd, 'watchIndex', 'watched', index);
  has(seen, 'set', { value: 'then', modifiedIndex: index });
});
test('#raw() should send provided value', async () => {
  has(await call(etcd, 'raw', 'POST', 'v2/keys/raw', 'value', {}), 'create', { value: 'value' });
});
test('#raw() should call cb on value from etcd', async () => {
  await set('key', 'value');
  has(await call(etcd, 'raw', 'GET', 'v2/keys/key', null, {}), 'get', { value: 'value' });
});
test('#machines() should ask etcd for connected machines', async () => {
  // etcd has had no such key since 2.0.
  const error = await fails(etcd, 'machines');
  assert.strictEqual(error.error.cause, '/_etcd');
  assert.strictEqual((await call(etcd, 'raw', 'GET', 'v2/machines', null, {})).body, URL);
});
test('#leader() should ask etcd for leader', async () => {
  // etcd has had no such path since 2.0.
  assert.strictEqual((await call(etcd, 'leader')).body, '404 page not found\n');
});
test('#leaderStats() should ask etcd for statistics for leader', async () => {
  const [leader, self] = [await call(etcd, 'leaderStats'), await call(etcd, 'selfStats')];
  assert.strictEqual(leader.body.leader, self.body.id);
  assert.deepStrictEqual(leader.body.followers, {});
});
test('#selfStats() should ask etcd for statistics for connected server', async () => {
  const { body } = await call(etcd, 'selfStats');
  assert.strictEqual(body.state, 'StateLeader');
  assert.strictEqual(body.leaderInfo.leader, body.id);
});
test('#version() should ask etcd for version', async () => {
  const { body } = await call(etcd, 'version');
  assert.match(body.etcdserver, /^\d+\.\d+\.\d+/);
  assert.match(body.etcdcluster, /^\d+\.\d+\.0$/);
});

group = 'Cancellation Token';
test('should return token on request', async () => {
  const version = new Promise((resolve) => {
    const token = etcd.version(resolve);
    assert.strictEqual(typeof token.abort, 'function');
    assert.strictEqual(token.isAborted(), false);
  });
  await version;
});
test('should stop execution on abort', async () => {
  let called = 0;
  const token = etcd.watch('aborted', () => { called += 1; });
  token.abort();
  await set('aborted', 'value');
  await get('aborted');
  assert.strictEqual(called, 0);
});

group = 'Multiserver/Cluster support';
test('should accept list of servers in constructor', async () => {
  const hosts = new Etcd([HOST, 'localhost:4002']).getHosts();
  assert.deepStrictEqual(hosts, [URL, 'http://localhost:4002']);
});
test('should try next server in list on http error', async () => {
  await set('foo', 'value');
  const client = new Etcd([...await closed(3), HOST]);
  has(await call(client, 'get', 'foo'), 'get', { value: 'value' });
});
test('should callback error if all servers failed', async () => {
  const error = await fails(new Etcd(await closed(2)), 'get', 'foo', { maxRetries: 0 });
  assert.strictEqual(error.errors.length, 2);
});

group = 'Multiserver/Cluster support when cluster is doing leader elect';
test('should retry on connection refused', async () => {
  const error = await fails(new Etcd(await closed(3)), 'set', 'a', 'b');
  assert.strictEqual(error.errors.length, 12);
  assert.strictEqual(error.retries, 3);
});
test('should allow maxRetries to control number of retries', async () => {
  const error = await fails(new Etcd(await closed(3)), 'set', 'a', 'b', { maxRetries: 1 });
  assert.strictEqual(error.errors.length, 6);
  assert.strictEqual(error.retries, 1);
});

module.exports = { cases };
